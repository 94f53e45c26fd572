//! One CONNECT: bound to this waypoint, or refused; then whatever is spoken in it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use ambit_core::addr::NetworkAddr;
use ambit_core::plan::{self, GatewayTunnel};
use ambit_http::detect::{Detection, Inner, SILENCE, Step};
use ambit_net::hbone::Duplex;
use ambit_net::hbone::server::Connect;
use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncReadExt;
use tokio::time::timeout_at;

use crate::ending::Ending;
use crate::http::Version;
use crate::io::Io;
use crate::session::{Caller, Session};
use crate::shared::Shared;
use crate::waiting::Waiting;
use crate::{crossing, http as requests, opaque};

/// Serves a tunnel to its end.
pub(crate) async fn serve(shared: Arc<Shared>, mut caller: Caller, connect: Connect) {
    if let Some(network) = shared.leads_into.clone() {
        return crossing::serve(shared, caller, connect, &network).await;
    }
    let snapshot = shared.snapshot();
    let network = shared.network(&snapshot).clone();
    let at = NetworkAddr::new(network.clone(), caller.address.ip());
    let workload = snapshot.index.workload_at(&at).cloned();
    caller.workload = workload.filter(|it| it.identity == caller.identity);
    let planned = plan::plan_tunnel(
        &snapshot.index,
        &GatewayTunnel {
            waypoint: &shared.service,
            network: &network,
            caller: &caller.identity,
            authority: connect.authority(),
        },
    );
    let target = match planned {
        Ok(target) => target,
        Err(refusal) => {
            let asked = connect.authority().to_owned();
            tracing::info!(peer = %caller.address, caller = %caller.identity, asked, reason = %refusal, "tunnel refused");
            let status = StatusCode::from_u16(refusal.status);
            connect.refuse(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
            return;
        }
    };
    drop(snapshot);
    let ending = Ending::new(connect.ending());
    // A peer that is gone needs no tunnel.
    let Ok(stream) = connect.accept(HeaderMap::new()) else {
        return;
    };
    let tunnel = Duplex::from(stream);
    let session = Session::new(caller, target, shared, ending, tunnel.counters());
    // A client that has not heard of it comes to a waypoint that its service is about to leave.
    if !session.is_wanted(&session.shared.snapshot()) {
        session.ending.begin();
    }
    let mut io = Io::Tunnel(tunnel);
    let Some((inner, first)) = detect(&session, &mut io).await else {
        return;
    };
    let first = first.freeze();
    match inner {
        Inner::Http1 => requests::serve(session, io, first, Version::Http1).await,
        Inner::Http2 => requests::serve(session, io, first, Version::Http2).await,
        Inner::Tls { sni } => opaque::serve(&session, io, first, sni.as_deref()).await,
        Inner::Opaque => opaque::serve(&session, io, first, None).await,
    }
}

/// What is spoken, and what has been read to learn it; nothing when the client broke off, or should come back over
/// another connection before it says anything.
async fn detect(session: &Session, io: &mut Io) -> Option<(Inner, BytesMut)> {
    let began = Instant::now();
    let detection = Detection::new(session.target.protocol, SILENCE, began);
    let mut waiting = Waiting::new(&session.ending);
    let mut seen = BytesMut::new();
    let mut ended = false;
    loop {
        let until = match detection.poll(&seen, ended, Instant::now()) {
            Step::Is(inner) => return Some((inner, seen)),
            Step::Wait { until } => until,
        };
        let silent = seen.is_empty();
        let reading = io.read_buf(&mut seen);
        let reading = async {
            match until {
                Some(until) => timeout_at(until.into(), reading).await.ok(),
                None => Some(reading.await),
            }
        };
        let read = tokio::select! {
            biased;
            read = reading => read,
            () = poll_fn(|cx| waiting.poll_over(cx)), if silent => return None,
        };
        if let Some(read) = read {
            ended = read.ok()? == 0;
        }
    }
}
