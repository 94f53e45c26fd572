//! How a connection bears a network that loses what is sent.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::libc;

/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// Longest pause before the next attempt to send; the kernel's own is two minutes. So long is what a
/// network that is whole again goes unnoticed.
const RETRANSMIT_WITHIN: Duration = Duration::from_secs(1);
/// `TCP_RTO_MAX_MS`, since Linux 6.15.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Bounds how long a TCP socket waits for a peer that cannot be reached, and how long it takes to notice that it can:
/// while it connects as well, when it is bounded before.
///
/// # Errors
/// As the kernel says. One that knows no bound for the pauses keeps its own.
pub(super) fn bound_loss(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let millis = RETRANSMIT_WITHIN.as_millis() as libc::c_int;
    // SAFETY: the kernel reads an integer, of which it is given the address and the size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const millis).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match io::Error::last_os_error() {
        error if result != 0 && error.raw_os_error() != Some(libc::ENOPROTOOPT) => Err(error),
        _ => Ok(()),
    }
}
