//! Packets with descriptors over Unix sockets (`SCM_RIGHTS`).
//!
//! Every descriptor that the kernel installs here is owned at once, so that none leaks whatever is wrong with its packet.

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::Socket;
use tokio::io::unix::AsyncFd;

/// Descriptors that a packet may bring before the kernel cuts the list: one more than any protocol here sends.
const DESCRIPTORS: usize = 2;

/// A packet that was received.
#[derive(Debug)]
pub struct Packet {
    /// How much of the buffer it fills.
    pub length: usize,
    /// The descriptors that came with it, closed on exec.
    pub descriptors: Vec<OwnedFd>,
    /// Bytes or descriptors were cut off.
    pub truncated: bool,
}

/// Watches a socket in tokio's reactor and makes it not block.
///
/// # Errors
/// When the reactor takes no more.
pub fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    socket.set_nonblocking(true)?;
    // SAFETY: a socket owns its open descriptor for as long as it lives, and always names the same one.
    let watched = unsafe { AsyncFd::register(socket) };
    watched.map_err(Into::into)
}

/// Sends one packet, with a descriptor if there is one. Never raises SIGPIPE.
///
/// # Errors
/// What `sendmsg` says; `WouldBlock` when the socket does not block and its buffer is full.
pub fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one packet; an empty one without descriptors is the end of the connection.
///
/// # Errors
/// What `recvmsg` says; `WouldBlock` when the socket does not block and nothing is there.
pub fn receive_packet(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    // Aligned for the header that the kernel writes at its start.
    let mut control = [MaybeUninit::<u64>::uninit(); 8];
    // SAFETY: CMSG_SPACE only computes.
    let wanted = unsafe { libc::CMSG_SPACE((DESCRIPTORS * size_of::<RawFd>()) as u32) } as usize;
    let space = wanted.min(size_of_val(&control));
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a msghdr of zeros is valid: no name, no parts, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = space as _;
    // SAFETY: the header points at a buffer and control space that live on, with their true lengths.
    let length =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recvmsg succeeded with this header, and its control space is still there.
    let descriptors = unsafe { descriptors(&header) };
    Ok(Packet {
        length,
        descriptors,
        truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    })
}

/// Owns the descriptors in a header's control data.
///
/// # Safety
/// The header was filled by a successful `recvmsg`, and this is called once for it.
unsafe fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut owned = Vec::new();
    // SAFETY: by the contract of this function the control data is what the kernel wrote; the macros stay inside of it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
                let bytes = message.cmsg_len - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(message).cast::<RawFd>();
                for place in 0..bytes / size_of::<RawFd>() {
                    let raw = first.add(place).read_unaligned();
                    owned.push(OwnedFd::from_raw_fd(raw));
                }
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    owned
}
