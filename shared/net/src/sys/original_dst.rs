//! Where a redirected connection was going.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination that the client dialled, before the kernel redirected it here.
///
/// IPv4-mapped addresses come back as IPv4.
///
/// # Errors
/// When the connection was not redirected, or conntrack has forgotten it.
pub fn original_dst(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr()?;
    let ipv4 = match local.ip() {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    let address = if ipv4 {
        socket.original_dst_v4()?
    } else {
        socket.original_dst_v6()?
    };
    let address = address
        .as_socket()
        .ok_or_else(|| io::Error::other("the original destination is not an IP address"))?;
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    if address == SocketAddr::new(local.ip().to_canonical(), local.port()) {
        // Carrying it on would dial ourselves, for ever.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the client dialled {address}, a port of the node proxy"),
        ));
    }
    Ok(address)
}
