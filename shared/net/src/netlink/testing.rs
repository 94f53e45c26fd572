//! Tests in network namespaces of their own, as root or as an ordinary user.
//!
//! A user namespace can only be made by a process of one thread, which a test never is. So the test runs itself once
//! more, as a process that has the new namespaces from its start.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs, io, thread};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::route::Handle;

const INSIDE: &str = "AMBIT_TEST_ISOLATED";

/// Runs the body of a test in fresh user, network and mount namespaces, where it is root. `lo` is up. Call it first thing
/// in a test: the process that runs the body is another one, which runs only this test.
///
/// # Panics
/// When the body does, or when this machine allows no such namespaces.
pub fn isolated(body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        let mut route = Handle::open().expect("netlink opens in a new namespace");
        route
            .set_up("lo")
            .expect("root of the namespace sets up lo");
        return body();
    }
    let thread = thread::current();
    let name = thread.name().expect("a test's thread has its name");
    let program = env::current_exe().expect("a test knows its own program");
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, "1");
    let maps = maps();
    // SAFETY: between fork and exec only system calls are made, on strings that were made before.
    unsafe { command.pre_exec(move || enter(&maps)) };
    let output = command
        .output()
        .expect("user and network namespaces are allowed here");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} in namespaces of its own: {}\n{said}\n{wrong}",
        output.status
    );
}

/// A new, empty network namespace; `lo` is down.
///
/// # Panics
/// Outside of [`isolated`].
#[must_use]
pub fn namespace() -> OwnedFd {
    let make = || -> io::Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(fs::File::open("/proc/thread-self/ns/net")?.into())
    };
    thread::scope(|scope| scope.spawn(make).join())
        .expect("making a namespace does not panic")
        .expect("root of a namespace makes namespaces")
}

/// Runs `work` on a thread inside the namespace.
///
/// # Panics
/// When `work` does.
pub fn within<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::setns(netns, CloneFlags::CLONE_NEWNET).expect("the namespace is enterable");
            work()
        });
        inside.join().expect("the work in the namespace succeeds")
    })
}

/// What is written where so that the caller is root in its namespace.
fn maps() -> [(CString, Vec<u8>); 3] {
    let text = |path: &str| CString::new(path).expect("the path has no zero");
    let uid = format!("0 {} 1", nix::unistd::geteuid());
    let gid = format!("0 {} 1", nix::unistd::getegid());
    [
        (text("/proc/self/setgroups"), b"deny".to_vec()),
        (text("/proc/self/uid_map"), uid.into_bytes()),
        (text("/proc/self/gid_map"), gid.into_bytes()),
    ]
}

fn enter(maps: &[(CString, Vec<u8>)]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    for (path, text) in maps {
        // SAFETY: the path is a string with its zero, the text is as long as told, the descriptor is the one just opened.
        let written = unsafe {
            let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            let written = libc::write(fd, text.as_ptr().cast(), text.len());
            libc::close(fd);
            written
        };
        Errno::result(written)?;
    }
    Ok(())
}
