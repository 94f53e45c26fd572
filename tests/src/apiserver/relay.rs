//! The way to an API server outside the lab's namespaces. A process of the machine accepts on a unix
//! socket in the lab's folder and dials the server; the daemon listens on the lab's own addresses and
//! hands on to that socket. Bytes are not looked at.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Settings;
use crate::net::accepted;
use crate::stage::SELF;
use crate::sys;

fn socket(folder: &Path) -> PathBuf {
    folder.join("kube.sock")
}

/// Starts the machine's end, which ends with the calling process.
///
/// # Errors
/// When the socket cannot be made or the process not be started.
pub(super) fn listen(folder: &Path, settings: &Settings) -> io::Result<()> {
    let listener = StdListener::bind(socket(folder))?;
    let mut command = Command::new(SELF);
    command
        .args(["__relay", &settings.address])
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    sys::die_with_parent(&mut command, Signal::SIGKILL);
    command.spawn()?;
    Ok(())
}

/// The machine's end: hands everything that arrives at standard input, a listener, on to `address`.
///
/// # Errors
/// When standard input is no listener.
pub(crate) fn stage(address: &str) -> anyhow::Result<ExitCode> {
    let listener = StdListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let address = Arc::<str>::from(address);
    runtime.block_on(async {
        let listener = UnixListener::from_std(listener)?;
        loop {
            let mut from = accepted(|| listener.accept()).await;
            let address = Arc::clone(&address);
            tokio::spawn(async move {
                let mut to = TcpStream::connect(&*address).await?;
                copy_bidirectional(&mut from, &mut to).await
            });
        }
    })
}

/// The lab's end: listens on `port` of the bridge, for pods and nodes, and of the loopback address, for
/// processes beside the daemon.
///
/// # Errors
/// When an address cannot be listened on.
pub(super) fn serve(folder: &Path, bridge: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket = Arc::<Path>::from(socket(folder));
    for address in [bridge, Ipv4Addr::LOCALHOST] {
        let listener = std::net::TcpListener::bind(SocketAddr::from((address, port)))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            loop {
                let mut from = accepted(|| listener.accept()).await;
                let socket = Arc::clone(&socket);
                tokio::spawn(async move {
                    let mut to = UnixStream::connect(&socket).await?;
                    copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
    }
    Ok(())
}
