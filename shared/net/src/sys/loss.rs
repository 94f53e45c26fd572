//! How a connection bears a network that loses what is sent.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use tokio::net::TcpStream;

/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// Longest pause before the next attempt to send; the kernel's own is two minutes. So long is what a
/// network that is whole again goes unnoticed.
const RETRANSMIT_WITHIN: Duration = Duration::from_secs(1);
/// `TCP_RTO_MAX_MS`, since Linux 6.15.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Bounds how long `stream` waits for a peer that cannot be reached, and how long it takes to notice that it can.
///
/// # Errors
/// As the kernel says. One that knows no bound for the pauses keeps its own.
pub fn bound_loss(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let millis = RETRANSMIT_WITHIN.as_millis() as libc::c_int;
    // SAFETY: the kernel reads an integer, of which it is given the address and the size.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_gives_up_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("connected");
        bound_loss(&stream).expect("bounds");
        let timeout = socket2::SockRef::from(&stream).tcp_user_timeout();
        assert_eq!(timeout.expect("an option"), Some(UNACKNOWLEDGED));
    }
}
