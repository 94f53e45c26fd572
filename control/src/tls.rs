//! TLS for the xDS and CA port: a certificate of the mesh's own authority, renewed in time, and
//! handshakes that cannot hold up each other.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::ca::{Authority, Signing};

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_secs(60);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time; more wait in the listen queue.
const HANDSHAKES: usize = 256;
/// After an accept failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The server's certificate, newest first and only.
#[derive(Debug)]
pub struct ServerCertificate {
    authority: Signing,
    names: Vec<String>,
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertificate {
    /// A first certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// A name that is none, or the authority cannot sign.
    pub fn new(authority: Signing, names: Vec<String>) -> Result<Self, String> {
        let now = authority.borrow().clone();
        let current = ArcSwap::from_pointee(issue(&now, &names)?);
        Ok(Self {
            authority,
            names,
            current,
        })
    }

    /// Renews at half life and when the authority is another one, until there is none.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut changed = self.authority.clone();
        let mut wait = LIFETIME / 2;
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(wait, changed.changed()).await {
                return;
            }
            let authority = changed.borrow_and_update().clone();
            wait = match issue(&authority, &self.names) {
                Ok(certified) => {
                    self.current.store(Arc::new(certified));
                    LIFETIME / 2
                }
                Err(error) => {
                    tracing::error!(%error, "the server certificate was not renewed");
                    RETRY
                }
            };
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn issue(authority: &Authority, names: &[String]) -> Result<CertifiedKey, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let chain = authority.sign_server(&key, names, LIFETIME, SystemTime::now())?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(chain, key))
}

/// Accepts until `stopping`; connections come out once their handshake is done.
#[must_use]
pub fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    stopping: watch::Receiver<bool>,
) -> mpsc::Receiver<io::Result<Stream>> {
    let (sender, receiver) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(accept_loop(listener, acceptor, sender, stopping));
    receiver
}

async fn accept_loop(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<io::Result<Stream>>,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(tls)) => {
                    drop(permit);
                    let _ = ready.send(Ok(Stream { tls, peer })).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
            }
        });
    }
}

/// A TLS connection that knows its peer.
#[derive(Debug)]
pub struct Stream {
    tls: TlsStream<TcpStream>,
    peer: SocketAddr,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
