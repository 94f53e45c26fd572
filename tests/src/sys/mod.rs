//! The system calls that need `unsafe`: descriptors over a unix socket, and what a child does
//! between fork and exec. Nothing else of the lab may use `unsafe`.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socket,
};

/// How many descriptors one message may carry.
const MOST_DESCRIPTORS: usize = 3;

/// Sends `bytes` with `descriptors` beside them. Returns how many bytes were taken. A signal does not interrupt it.
///
/// # Errors
/// As the kernel says.
pub fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[RawFd],
) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let slices = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &slices, control, flags, None) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Receives into `buffer`, and the descriptors that came along. A signal does not interrupt it, also on a socket with
/// a time limit, where the kernel starts no call again (signal(7)).
///
/// # Errors
/// As the kernel says; [`io::ErrorKind::WouldBlock`] on a non-blocking socket with nothing to read.
pub fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    loop {
        match receive(socket, buffer) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for fd in raw {
                // SAFETY: the kernel has just installed this descriptor for this message, so
                // nobody else in the process owns it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, descriptors))
}

/// Makes the child of `command` start with no signal blocked, whatever its parent blocks.
pub fn unblock_signals(command: &mut Command) {
    // SAFETY: the closure makes one async-signal-safe system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            Ok(())
        });
    }
}

/// Makes the child of `command` receive `signal` when the thread that starts it ends.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    // SAFETY: the closure makes one async-signal-safe system call and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(signal)?;
            Ok(())
        });
    }
}

/// A socket that receives every frame that `device` of the calling thread's network namespace sends or
/// receives.
///
/// # Errors
/// As the kernel says; it needs `CAP_NET_RAW`.
pub fn packet_socket(device: &str) -> io::Result<OwnedFd> {
    let socket = deaf_packet_socket()?;
    listen_to(&socket, device)?;
    Ok(socket)
}

/// One that receives nothing yet.
fn deaf_packet_socket() -> io::Result<OwnedFd> {
    let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    Ok(socket(AddressFamily::Packet, kind, flags, None)?)
}

fn listen_to(socket: &OwnedFd, device: &str) -> io::Result<()> {
    let index = if_nametoindex(device)?;
    // SAFETY: all zeros is a valid `sockaddr_ll`, a struct of integers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let pointer = (&raw const address).cast();
    // SAFETY: `pointer` leads to `length` bytes that live until the call returns.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), pointer, length) };
    if bound == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The same, for frames that go on as they are: without what the device sends itself, and with the kernel's word on
/// checksums and large segments before each (`struct virtio_net_hdr`), which a frame that is sent needs as well.
///
/// # Errors
/// As the kernel says.
pub fn relay_socket(device: &str) -> io::Result<OwnedFd> {
    let socket = deaf_packet_socket()?;
    for option in [libc::PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING] {
        let on: libc::c_int = 1;
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        let pointer = (&raw const on).cast();
        // SAFETY: `pointer` leads to `length` bytes that live until the call returns.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                pointer,
                length,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    listen_to(&socket, device)?;
    Ok(socket)
}

/// Since Linux 4.20 (`linux/if_packet.h`).
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::os::unix::thread::JoinHandleExt;
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sys::signal::{SaFlags, SigAction, SigHandler, sigaction};

    use super::*;

    extern "C" fn nothing(_: libc::c_int) {}

    #[test]
    fn a_signal_does_not_interrupt() {
        let handler = SigHandler::Handler(nothing);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing, and nobody else in this process has to do with the signal.
        unsafe { sigaction(Signal::SIGURG, &action) }.expect("a handler");
        let (left, right) = UnixStream::pair().expect("a socket pair");
        right
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a limit");
        let receiving = thread::spawn(move || {
            let mut buffer = [0; 16];
            receive_with_descriptors(right.as_fd(), &mut buffer).map(|(length, _)| length)
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(50) && !receiving.is_finished() {
            // SAFETY: the thread has not been joined, so it is one.
            unsafe { libc::pthread_kill(receiving.as_pthread_t(), libc::SIGURG) };
            thread::yield_now();
        }
        let _ = send_with_descriptors(left.as_fd(), b"hello", &[]);
        assert_eq!(receiving.join().expect("joined").expect("a message"), 5);
    }

    #[test]
    fn a_descriptor_crosses_a_socket() {
        let (left, right) = UnixStream::pair().expect("a socket pair");
        let file = File::open("/proc/self/comm").expect("an open file");
        let sent = send_with_descriptors(left.as_fd(), b"hello", &[file.as_raw_fd()]);
        assert_eq!(sent.expect("a send"), 5);
        let mut buffer = [0; 16];
        let (length, mut descriptors) =
            receive_with_descriptors(right.as_fd(), &mut buffer).expect("a message");
        assert_eq!(&buffer[..length], b"hello");
        assert_eq!(descriptors.len(), 1);
        let mut text = String::new();
        File::from(descriptors.remove(0))
            .read_to_string(&mut text)
            .expect("the file's text");
        assert!(!text.is_empty());
    }
}
