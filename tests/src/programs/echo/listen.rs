//! Listens, accepts, and hands each connection to its protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::command::{Command, Mode};
use super::detect::{self, Detected};
use super::socket::Socket;
use super::stats::Open;
use super::{Process, http, tcp};

/// Listens on an address, with IPv4 as well when it is the unspecified IPv6 one. On a machine without IPv6 that one means
/// IPv4 alone.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_to(address) {
        Err(error)
            if address.ip().is_unspecified()
                && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            bind_to(SocketAddr::new(
                std::net::Ipv4Addr::UNSPECIFIED.into(),
                address.port(),
            ))
        }
        result => result,
    }
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // The kernel lowers it to net.core.somaxconn.
    socket.listen(65_535)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever.
pub(super) async fn accept(process: Arc<Process>, mode: Option<Mode>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(process.clone(), mode, stream));
            }
            Err(error) => {
                // Out of file descriptors, mostly: let connections end before trying again.
                tracing::warn!("accept failed: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn serve(process: Arc<Process>, mode: Option<Mode>, stream: TcpStream) {
    // A broken connection is the client's business, or the very thing a test is after.
    if let Err(error) = serve_protocol(process, mode, stream).await {
        tracing::debug!("connection ended: {error}");
    }
}

async fn serve_protocol(
    process: Arc<Process>,
    mode: Option<Mode>,
    stream: TcpStream,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = Socket::new(stream);
    let command = match mode {
        Some(Mode::Reset) => {
            socket.readable().await?;
            Command {
                mode: Mode::Reset,
                size: None,
            }
        }
        Some(mode) => Command { mode, size: None },
        None => match detect_protocol(&mut socket).await? {
            Detected::Http1 => {
                let open = Open::new(process.clone(), "http/1.1");
                return http::serve_http1(process, socket, open).await;
            }
            Detected::Http2 => {
                let open = Open::new(process.clone(), "h2c");
                return http::serve_http2(process, socket, open).await;
            }
            Detected::Command(Ok(command), length) => {
                socket.skip(length);
                command
            }
            Detected::Command(Err(reason), _) => {
                socket.write_all(format!("{reason}\n").as_bytes()).await?;
                return socket.shutdown().await;
            }
            Detected::Raw | Detected::Undecided => Command {
                mode: Mode::Echo,
                size: None,
            },
        },
    };
    let open = Open::new(process.clone(), command.mode.name());
    let served = tcp::serve(&process, socket, command, &open).await;
    if matches!(&served, Err(error) if error.kind() == io::ErrorKind::ConnectionReset) {
        open.was_reset();
    }
    served
}

async fn detect_protocol(socket: &mut Socket) -> io::Result<Detected> {
    loop {
        let detected = detect::detect(socket.head());
        if detected != Detected::Undecided || !socket.read_head(detect::ENOUGH).await? {
            return Ok(detected);
        }
    }
}
