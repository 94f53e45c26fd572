//! Sockets of one pod, or of the process itself.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::succession::draw_among_all;
use super::{Netns, bound_loss};

const BACKLOG: i32 = 4096;
/// Ports above those that Linux gives to clients (`ip_local_port_range`).
const FOREIGN_PORTS: RangeInclusive<u16> = 61_000..=65_535;
/// How many of them are tried.
const PORT_TRIES: usize = 3;
const KEEPALIVE_TIME: Duration = Duration::from_secs(180);
const KEEPALIVE_PROBES: u32 = 9;

/// Makes sockets in a network namespace, with a mark.
#[derive(Debug, Clone, Default)]
pub struct Sockets {
    /// Where sockets are made; `None` is the process's own namespace.
    pub netns: Option<Netns>,
    /// `SO_MARK` of every socket; needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
}

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// An ordinary service.
    Plain,
    /// Other proxies of the mesh connect; see [`Sockets::connect_to_proxy`].
    Hbone,
}

impl Sockets {
    /// Listens on `address`. `[::]` serves IPv4 as well. Several sockets may listen on one port
    /// (`SO_REUSEPORT`), so that an upgrade overlaps. Connections are accepted without delay of
    /// small writes and with keepalive.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn listen(&self, address: SocketAddr, kind: Listen) -> io::Result<TcpListener> {
        let socket = self.socket(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // What is accepted inherits these (tcp(7)), for no system call at all.
        socket.set_tcp_nodelay(true)?;
        keepalive(&socket)?;
        if kind == Listen::Hbone {
            bound_loss(&socket)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        draw_among_all(&socket);
        TcpListener::from_std(socket.into())
    }

    /// Listens on every address of both families; of IPv4 alone where the namespace has no IPv6.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn listen_any(&self, port: u16, kind: Listen) -> io::Result<TcpListener> {
        match self.listen((Ipv6Addr::UNSPECIFIED, port).into(), kind) {
            Err(error) if no_ipv6(&error) => {
                self.listen((std::net::Ipv4Addr::UNSPECIFIED, port).into(), kind)
            }
            result => result,
        }
    }

    /// Connects to `destination`, from `source` when given: an address of somebody else, to which
    /// the namespace's rules route the replies back (`IP_TRANSPARENT`). The port is one that its owner is not likely to
    /// have towards the same destination; when many of those are taken, one that the kernel draws.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn connect(
        &self,
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<TcpStream> {
        if let Some(source) = source {
            for _ in 0..PORT_TRIES {
                let port = rand::random_range(FOREIGN_PORTS);
                let from = SocketAddr::new(source, port);
                match self.connect_from(destination, Some(from)).await {
                    Err(error) if in_use(&error) => {}
                    result => return result,
                }
            }
        }
        let source = source.map(|source| SocketAddr::new(source, 0));
        self.connect_from(destination, source).await
    }

    /// Connects to another proxy of the mesh. How long it and the network between may be silent is bounded from the
    /// first packet on (`loss.rs`).
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn connect_to_proxy(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.client(destination)?;
        bound_loss(&socket)?;
        TcpSocket::from_std_stream(socket.into())
            .connect(destination)
            .await
    }

    async fn connect_from(
        &self,
        destination: SocketAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<TcpStream> {
        let socket = self.client(destination)?;
        if let Some(source) = source {
            transparent(&socket, destination)?;
            if source.port() == 0 {
                setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            } else {
                // Towards another destination the port is free.
                socket.set_reuse_address(true)?;
            }
            socket.bind(&source.into())?;
        }
        TcpSocket::from_std_stream(socket.into())
            .connect(destination)
            .await
    }

    /// Receives datagrams at `address`. Several sockets may (`SO_REUSEPORT`), so that an upgrade overlaps.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn receive(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.made(address, Type::DGRAM, Protocol::UDP)?;
        // With SO_REUSEADDR any other user could take the port.
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// Exchanges datagrams with `destination` alone: from `source` when given, at a port as [`Sockets::connect`] draws one, else from
    /// where the kernel chooses.
    /// What comes back is its own even when the kernel has forgotten that it was asked for (`IP_TRANSPARENT`).
    ///
    /// # Errors
    /// As the kernel says.
    pub fn correspond(
        &self,
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<UdpSocket> {
        let socket = self.made(destination, Type::DGRAM, Protocol::UDP)?;
        transparent(&socket, destination)?;
        if let Some(source) = source {
            let drawn = (0..PORT_TRIES).map(|_| rand::random_range(FOREIGN_PORTS));
            let mut ports = drawn.chain([0]);
            let taken = |port| socket.bind(&SocketAddr::new(source, port).into());
            let bound = ports.find_map(|port| match taken(port) {
                Err(error) if in_use(&error) && port != 0 => None,
                result => Some(result),
            });
            bound.unwrap_or(Ok(()))?;
        }
        socket.connect(&destination.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// A socket to connect with.
    fn client(&self, destination: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(destination)?;
        socket.set_tcp_nodelay(true)?;
        keepalive(&socket)?;
        Ok(socket)
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        self.made(address, Type::STREAM, Protocol::TCP)
    }

    pub(super) fn made(
        &self,
        address: SocketAddr,
        kind: Type,
        protocol: Protocol,
    ) -> io::Result<Socket> {
        let make = || Socket::new(Domain::for_address(address), kind, Some(protocol));
        let socket = match &self.netns {
            Some(netns) => netns.run(make)?,
            None => make()?,
        };
        socket.set_nonblocking(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        Ok(socket)
    }
}

/// Closes a connection so that its peer sees an error, not an end.
pub fn reset(stream: TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

fn keepalive(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_TIME)
            .with_retries(KEEPALIVE_PROBES),
    )
}

pub(super) fn transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_ip_transparent_v6(true)?;
        socket.set_freebind_v6(true)
    } else {
        socket.set_ip_transparent_v4(true)?;
        socket.set_freebind_v4(true)
    }
}

/// Whether the port is taken: by a listener, or towards the same destination.
fn in_use(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

/// Whether a socket could not be made because its namespace has no IPv6.
#[must_use]
pub fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::SockRef;

    use super::*;

    /// Both ends of a connection: to a listener of that kind, as `dial` connects.
    async fn ends<F>(kind: Listen, dial: impl FnOnce(Sockets, SocketAddr) -> F) -> [TcpStream; 2]
    where
        F: Future<Output = io::Result<TcpStream>>,
    {
        let sockets = Sockets::default();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = sockets.listen(any, kind).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (dialled, accepted) = tokio::join!(dial(sockets, address), listener.accept());
        [dialled.expect("dialled"), accepted.expect("accepted").0]
    }

    #[tokio::test]
    async fn what_is_accepted_has_the_options_of_what_is_dialled() {
        let dial = |sockets: Sockets, to| async move { sockets.connect(to, None).await };
        for stream in ends(Listen::Plain, dial).await {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().expect("an option"));
            assert!(socket.keepalive().expect("an option"));
            let (time, probes) = (socket.tcp_keepalive_time(), socket.tcp_keepalive_retries());
            assert_eq!(time.expect("an option"), KEEPALIVE_TIME);
            assert_eq!(probes.expect("an option"), KEEPALIVE_PROBES);
        }
    }

    #[tokio::test]
    async fn a_burst_of_connections_is_queued_until_it_is_accepted() {
        let sockets = Sockets::default();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = sockets.listen(any, Listen::Plain).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let burst = (0..300).map(|_| sockets.connect(address, None));
        let connected = futures_util::future::try_join_all(burst);
        let limit = Duration::from_secs(10);
        let connected = tokio::time::timeout(limit, connected).await;
        connected.expect("the queue has room").expect("connected");
    }

    #[tokio::test]
    async fn a_connection_to_a_proxy_gives_up_after_a_while() {
        let dial = |sockets: Sockets, to| async move { sockets.connect_to_proxy(to).await };
        for stream in ends(Listen::Hbone, dial).await {
            let timeout = SockRef::from(&stream).tcp_user_timeout();
            let timeout = timeout.expect("an option").expect("a limit");
            assert!(timeout < Duration::from_secs(60), "{timeout:?}");
        }
    }
}
