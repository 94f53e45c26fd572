//! HBONE that arrives: mutual TLS as the waypoint, a task for every tunnel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_core::plan::HBONE_PORT;
use ambit_net::hbone::{Settings, server};
use ambit_net::revocation::Revoked;
use ambit_net::sys::{Listen, Sockets};
use ambit_net::tls;
use ambit_proxy::Drained;
use tokio::net::{TcpListener, TcpStream};

use crate::crew::Member;
use crate::session::Caller;
use crate::shared::Shared;
use crate::tunnel;

/// Wait after an accept that failed: out of descriptors, say.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens for one worker; several listen on the same port and the kernel deals connections out.
pub(crate) fn listen() -> std::io::Result<TcpListener> {
    Sockets::default().listen_any(HBONE_PORT, Listen::Hbone)
}

/// Serves every connection until the drain begins; tunnels may finish until it cuts.
pub(crate) async fn serve(
    worker: Member,
    listener: TcpListener,
    settings: Arc<Settings>,
    mut drained: Drained,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drained.begun() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let (settings, drained) = (settings.clone(), drained.clone());
                let serving = |worker, stream| connection(worker, stream, peer, settings, drained);
                if let Err(error) = worker.spawn_connection(stream, serving) {
                    tracing::warn!(%peer, %error, "a connection cannot be handed over");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    worker: Member,
    stream: TcpStream,
    peer: SocketAddr,
    settings: Arc<Settings>,
    drained: Drained,
) {
    let handshake = handshake(worker.shared(), stream);
    let secured = match tokio::time::timeout(settings.handshake_timeout, handshake).await {
        Ok(secured) => secured,
        Err(_) => Err("the handshake took too long".to_owned()),
    };
    let (stream, now, revoked, caller) = match secured {
        Ok((stream, identity, now, revoked)) => (
            stream,
            now,
            revoked,
            Caller {
                identity,
                address: peer,
                workload: None,
            },
        ),
        Err(reason) => {
            tracing::info!(%peer, reason, "HBONE connection refused");
            return;
        }
    };
    let on_connect = |connect| {
        let (caller, mut drained) = (caller.clone(), drained.clone());
        worker.spawn_tunnel(|shared| async move {
            let cut = shared.clone();
            // What is cut can tell by it that nobody else has ended it.
            let cut = async {
                drained.cut().await;
                cut.cut.store(true, Ordering::Relaxed);
            };
            tokio::select! {
                () = tunnel::serve(shared, caller, connect) => {}
                () = cut => {}
            }
        });
    };
    let served = server::serve(
        stream,
        &settings,
        now,
        drained.signal(),
        revoked,
        on_connect,
    );
    if let Err(error) = served.await {
        tracing::debug!(%peer, %error, "HBONE connection broke");
    }
}

async fn handshake(
    shared: &Shared,
    stream: TcpStream,
) -> Result<
    (
        tls::Stream,
        Identity,
        SystemTime,
        impl Future<Output = Revoked>,
    ),
    String,
> {
    let certificate = shared
        .certificate
        .get()
        .await
        .map_err(|it| it.to_string())?;
    let config = certificate.server_config().map_err(|it| it.to_string())?;
    let accepted = tls::Stream::accept(stream, config).await;
    let stream = accepted.map_err(|error| error.to_string())?;
    let now = certificate.now();
    let identity = certificate.peer_identity(&stream, now);
    let identity = identity.map_err(|error| error.to_string())?;
    let revoked = certificate.until_revoked(&stream);
    Ok((stream, identity, now, revoked))
}
