//! Tunnels end to end on loopback: who is accepted, what arrives, what happens when it breaks.

#[allow(unreachable_pub, missing_docs, reason = "shared by tests")]
mod support;

mod datagrams;
mod gateways;
mod limits;
mod lives;
mod peers;
mod pool;
mod relay;
mod revoked;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_net::hbone::{Opening, Pool, Settings, Stage, Target, server};
use ambit_net::relay::{Counters, Far, relay_tunnel};
use ambit_net::sys::Sockets;
use ambit_net::tls::{self, Certified};
use http::{HeaderMap, StatusCode};
use support::{Ca, Leaf, ids, never_drain, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
/// Longer than any test takes.
const HALF_CLOSED: Duration = Duration::from_secs(3600);

/// The server of these tests, there.
fn server_at(address: SocketAddr) -> Target {
    Target {
        address,
        identities: ids(&[SERVER]),
    }
}

/// Dials the authority and relays.
fn forward(connect: server::Connect, _peer: ambit_core::identity::Identity) {
    tokio::spawn(async move {
        let Ok(app) = TcpStream::connect(connect.authority()).await else {
            return connect.refuse(StatusCode::SERVICE_UNAVAILABLE);
        };
        let stream = connect.accept(HeaderMap::new()).expect("a peer");
        let counters = Counters::default();
        let _ = relay_tunnel(
            app,
            Far::Established(stream),
            &counters,
            HALF_CLOSED,
            |_| {},
        )
        .await;
    });
}

async fn target(ca: &Ca, settings: &Settings) -> Target {
    let certified = ca.certified(SERVER);
    let address = serve(certified, settings.clone(), never_drain(), forward).await;
    server_at(address)
}

async fn open(
    target: &Target,
    certified: &Arc<Certified>,
    authority: SocketAddr,
) -> Result<Opening, ambit_net::hbone::Error> {
    Pool::new(Sockets::default(), Settings::default())
        .open(target, certified, &authority.to_string(), HeaderMap::new())
        .await
}

/// A relay that runs.
type Relay = tokio::task::JoinHandle<Result<(), ambit_net::relay::Error>>;

/// A TCP connection whose other end is relayed into the tunnel.
async fn through(opening: Opening) -> (TcpStream, Relay) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address"))
        .await
        .expect("a connection");
    let (accepted, _) = listener.accept().await.expect("a connection");
    let relay = tokio::spawn(async move {
        let counters = Counters::default();
        relay_tunnel(
            accepted,
            Far::Opening(opening),
            &counters,
            HALF_CLOSED,
            |_| {},
        )
        .await
    });
    (near, relay)
}

/// Answers everything it got, doubled at the end, once the client has finished sending.
async fn doubling_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("data");
                let copy = all.clone();
                all.extend(copy);
                stream.write_all(&all).await.expect("room");
            });
        }
    });
    address
}
