//! HBONE that arrives at a pod: mutual TLS as the pod, then a tunnel for every CONNECT.
//!
//! A tunnel is registered, planned, authorized and connected to the application before it is
//! agreed to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_core::plan::{Refusal, Transport};
use ambit_net::hbone::server::{self, Connect};
use ambit_net::relay::{Far, relay_tunnel};
use ambit_net::revocation::Revoked;
use ambit_net::tls;
use ambit_telemetry::access::Direction;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::OwnedSemaphorePermit;

use super::accept::spawn_until_cut;
use super::{Failure, Flow, PodProxy, details, dial, headers, udp};
use crate::connections::{Asked, Claim, Ends, Open, Planned};

/// Serves one connection and the tunnels in it.
pub(super) async fn serve(proxy: Arc<PodProxy>, stream: TcpStream, client: SocketAddr) {
    let arrived_at = match stream.local_addr() {
        Ok(addr) => SocketAddr::new(addr.ip().to_canonical(), addr.port()),
        Err(_) => return,
    };
    let ends = Ends {
        direction: Direction::Inbound,
        transport: Transport::Tcp,
        source: client,
        destination: arrived_at,
        server_is_near: true,
    };
    let failed = |failure: Failure| {
        proxy.shared.handshakes().count(&failure);
        proxy.shared.connections().open(ends).finish(&Err(failure));
    };
    let secured = match Box::pin(handshake(&proxy, stream)).await {
        Ok(secured) => secured,
        Err(failure) => return failed(failure),
    };
    let Secured {
        stream,
        peer,
        now,
        revoked,
        admitted: _admitted,
    } = secured;
    let settings = &proxy.shared.settings().hbone;
    let on_connect = |connect: Connect| {
        let tunnel = tunnel(proxy.clone(), connect, peer.clone(), ends);
        spawn_until_cut(&proxy, Duration::ZERO, tunnel);
    };
    let drained = proxy.drained.signal();
    match server::serve(stream, settings, now, drained, revoked, on_connect).await {
        Ok(()) => {}
        Err(server::Error::Broken(error)) => {
            tracing::debug!(pod = %proxy.pod.name, %client, %peer, %error, "HBONE connection broke");
        }
        Err(error) => failed(Failure::Http2(error)),
    }
}

/// A connection after mutual TLS.
struct Secured<R> {
    stream: tls::Stream,
    peer: Arc<Identity>,
    now: SystemTime,
    revoked: R,
    admitted: OwnedSemaphorePermit,
}

/// Mutual TLS as the pod, within the time limit and the number of peers.
async fn handshake(
    proxy: &PodProxy,
    stream: TcpStream,
) -> Result<Secured<impl Future<Output = Revoked>>, Failure> {
    let admitted = proxy.pod.admit_peer()?;
    let certified = proxy.identity().await?.get().await?;
    let config = certified
        .server_config()
        .map_err(|e| Failure::Handshake(e.into()))?;
    let limit = proxy.shared.settings().hbone.handshake_timeout;
    let stream = match tokio::time::timeout(limit, tls::Stream::accept(stream, config)).await {
        Ok(accepted) => accepted.map_err(Failure::Handshake)?,
        Err(_) => {
            let text = format!("not completed in {limit:?}");
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
            return Err(Failure::Handshake(error));
        }
    };
    let now = certified.now();
    let peer = certified.peer_identity(&stream, now);
    let peer = peer.map_err(|e| Failure::Handshake(e.into()))?;
    let revoked = certified.until_revoked(&stream);
    Ok(Secured {
        stream,
        peer: Arc::new(peer),
        now,
        revoked,
        admitted,
    })
}

/// Serves one tunnel.
async fn tunnel(proxy: Arc<PodProxy>, connect: Connect, peer: Arc<Identity>, ends: Ends) {
    let transport = match connect.datagrams() {
        None => Transport::Tcp,
        Some(_) => Transport::Udp,
    };
    let ends = Ends { transport, ..ends };
    let open = proxy.shared.connections().open(ends);
    let result = carry(&proxy, &open, connect, peer).await;
    open.finish(&result);
}

async fn carry(
    proxy: &PodProxy,
    open: &Open,
    connect: Connect,
    peer: Arc<Identity>,
) -> Result<(), Failure> {
    let admitted = admit(proxy, open, &connect, peer);
    let (planned, _permit) = match admitted {
        Ok(admitted) => admitted,
        Err(failure) => {
            connect.refuse(failure.status());
            return Err(failure);
        }
    };
    let server = match server(proxy, open, &planned).await {
        Ok(server) => server,
        Err(failure) => {
            connect.refuse(failure.status());
            return Err(failure);
        }
    };
    let headers = proxy.baggage.response(&planned.local);
    drop(planned);
    let stream = connect
        .accept(headers)
        .map_err(|error| Failure::Http2(error.into()))?;
    let (counters, settings) = (open.counters(), proxy.shared.settings());
    tokio::select! {
        result = async {
            match server {
                Server::Stream(server) => {
                    let far = Far::Established(stream);
                    relay_tunnel(server, far, counters, settings.half_closed, |_| {}).await
                }
                Server::Datagrams(server) => {
                    let far = stream.into();
                    Box::pin(udp::relay_tunnel(server, far, counters, settings.udp.idle)).await
                }
            }
        } => Ok(result?),
        closed = open.closed() => Err(closed),
    }
}

/// Decides.
fn admit(
    proxy: &PodProxy,
    open: &Open,
    connect: &Connect,
    peer: Arc<Identity>,
) -> Result<(Planned, OwnedSemaphorePermit), Failure> {
    let ends = open.ends();
    let authority = match connect.datagrams() {
        None => connect.authority().into(),
        Some(Ok(asked)) => asked.to_string().into(),
        Some(Err(error)) => return Err(Refusal::bad_request(error.to_string()).into()),
    };
    let forwarded = headers::forwarded(connect.headers());
    let claim = Claim {
        local: proxy.pod.uid.clone(),
        peer_addr: ends.source,
        transport: ends.transport,
        asked: Asked::Tunnel {
            peer,
            socket: ends.destination,
            authority,
            forwarded_host: forwarded.host.map(String::into_boxed_str),
            forwarded_for: forwarded.client,
            caller: headers::caller(connect.headers()),
        },
    };
    open.claim(claim.clone());
    let planned = {
        let index = proxy.shared.index();
        let planned = Planned::of(&index, &claim);
        let plan = planned.as_ref().ok().map(|planned| &planned.plan);
        open.describe(details::inbound(&index, &claim, ends.destination, plan));
        let planned = planned?;
        planned.authorize(&index, &claim)?;
        planned
    };
    let permit = match ends.transport {
        Transport::Tcp => proxy.pod.admit(Direction::Inbound)?,
        Transport::Udp => proxy.pod.admit_flow(Flow::Tunnel)?,
    };
    Ok((planned, permit))
}

/// The application's end.
enum Server {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

/// Connects to the application.
async fn server(proxy: &PodProxy, open: &Open, planned: &Planned) -> Result<Server, Failure> {
    let (sockets, settings) = (&proxy.pod.sockets, proxy.shared.settings());
    let Ends {
        source, transport, ..
    } = open.ends();
    if transport == Transport::Udp {
        let server = dial::datagrams(sockets, &planned.plan, source.ip(), settings);
        return server.map(Server::Datagrams);
    }
    tokio::select! {
        dialled = dial::application(sockets, &planned.plan, source.ip(), settings) => dialled.map(Server::Stream),
        closed = open.closed() => Err(closed),
    }
}
