//! Plaintext that arrives at a pod. It has no identity; policies decide what that is worth.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::plan::{InboundPlan, Transport};
use ambit_net::relay::relay_tcp;
use ambit_net::sys;
use ambit_telemetry::access::Direction;
use tokio::net::TcpStream;

use super::client::Client;
use super::{Failure, PodProxy, details, dial};
use crate::connections::{Asked, Claim, Ends, Open, judge};

/// Carries one captured connection.
pub(super) async fn serve(proxy: Arc<PodProxy>, stream: TcpStream, client: SocketAddr) {
    let dialled = sys::original_dst(&stream);
    serve_to(proxy, stream, client, dialled).await;
}

/// Carries one connection to what the client dialled.
pub(super) async fn serve_to(
    proxy: Arc<PodProxy>,
    stream: TcpStream,
    client: SocketAddr,
    dialled: io::Result<SocketAddr>,
) {
    let destination = match &dialled {
        Ok(dialled) => *dialled,
        Err(_) => stream.local_addr().unwrap_or(client),
    };
    let open = proxy.shared.connections().open(Ends {
        direction: Direction::Inbound,
        transport: Transport::Tcp,
        source: client,
        destination,
        server_is_near: false,
    });
    let waiting = Client::new(stream);
    let result = match dialled {
        Ok(_) => carry(&proxy, &open, waiting).await,
        Err(error) => Err(Failure::Accept(error)),
    };
    open.finish(&result);
}

async fn carry(proxy: &PodProxy, open: &Open, client: Client) -> Result<(), Failure> {
    let _admitted = proxy.pod.admit(Direction::Inbound)?;
    proxy.identity().await?;
    let plan = admit(proxy, open)?;
    let settings = proxy.shared.settings();
    let sockets = &proxy.pod.sockets;
    tokio::select! {
        result = async {
            let server = dial::application(sockets, &plan, open.ends().source.ip(), settings).await?;
            let half_closed = settings.half_closed;
            Ok(relay_tcp(client.serve(), server, open.counters(), half_closed).await?)
        } => result,
        closed = open.closed() => Err(closed),
    }
}

/// Decides what plaintext leads to, over whatever it has come.
pub(super) fn admit(proxy: &PodProxy, open: &Open) -> Result<InboundPlan, Failure> {
    let Ends {
        source,
        destination,
        transport,
        ..
    } = open.ends();
    let claim = Claim {
        local: proxy.pod.uid.clone(),
        peer_addr: source,
        transport,
        asked: Asked::Plaintext { destination },
    };
    open.claim(claim.clone());
    let index = proxy.shared.index();
    let judged = judge(&index, &claim);
    let plan = judged.as_ref().ok().map(|admitted| &admitted.plan);
    open.describe(details::inbound(&index, &claim, destination, plan));
    Ok(judged?.plan)
}
