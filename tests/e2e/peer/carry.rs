//! Bytes between a Unix socket, which a test holds the other end of, and the network of a pod. A folder is
//! seen in every network namespace, so the test itself speaks from within the pod.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Dial, Serve, tunnel};

/// Carries connections out until it is ended.
pub(super) async fn dial(options: Dial) -> anyhow::Result<()> {
    let listener = UnixListener::bind(&options.socket)?;
    let config = options.tls.then(|| tunnel::config(&options.certificate));
    let tls = config.transpose()?.map(Arc::new).map(TlsConnector::from);
    loop {
        let (mut test, _) = listener.accept().await?;
        let tls = tls.clone();
        tokio::spawn(async move {
            let to = address(&mut test).await?;
            let tcp = TcpStream::connect(to).await?;
            tcp.set_nodelay(true)?;
            match tls {
                Some(tls) => {
                    let name = ServerName::from(to.ip());
                    carry(test, tls.connect(name, tcp).await?).await
                }
                None => carry(test, tcp).await,
            }
        });
    }
}

/// Carries connections in until it is ended.
pub(super) async fn serve(options: Serve) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, options.port)).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let socket = options.socket.clone();
        tokio::spawn(async move { carry(UnixStream::connect(socket).await?, tcp).await });
    }
}

async fn address(test: &mut UnixStream) -> anyhow::Result<SocketAddr> {
    let mut line = Vec::new();
    loop {
        match test.read_u8().await? {
            b'\n' => return Ok(String::from_utf8(line)?.parse()?),
            byte => line.push(byte),
        }
    }
}

/// Both ends close when one of them breaks.
async fn carry(
    mut test: UnixStream,
    mut network: impl AsyncRead + AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    copy_bidirectional(&mut test, &mut network).await?;
    Ok(())
}
