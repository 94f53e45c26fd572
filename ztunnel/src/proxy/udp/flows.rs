//! One flow that was captured, from its first datagram to its end.

use std::sync::Arc;

use ambit_core::model::Workload;
use ambit_core::plan::Transport;
use ambit_telemetry::access::Direction;

use super::super::{Failure, PodProxy, dial, passthrough};
use super::end::{Client, End};
use super::outbound;
use super::relay::relay;
use super::serve::Entry;
use crate::connections::{Ends, Open};

/// Serves a flow.
pub(super) async fn serve(
    proxy: Arc<PodProxy>,
    client: Client,
    direction: Direction,
    entry: Entry,
) {
    let open = proxy.shared.connections().open(Ends {
        direction,
        transport: Transport::Udp,
        source: client.address,
        destination: client.dialled,
        server_is_near: false,
    });
    let result = carry(&proxy, &open, client, direction).await;
    open.finish(&result);
    if result.is_ok() {
        entry.well();
    }
}

async fn carry(
    proxy: &PodProxy,
    open: &Open,
    client: Client,
    direction: Direction,
) -> Result<(), Failure> {
    proxy.identity().await?;
    let (far, unproven) = match direction {
        Direction::Outbound => Box::pin(outbound::connect(proxy, open)).await?,
        Direction::Inbound => (application(proxy, open)?, None),
    };
    let idle = proxy.shared.settings().udp.idle;
    tokio::select! {
        result = relay(End::Captured(client), far, open.counters(), idle) => Ok(result?),
        closed = open.closed() => Err(closed),
        // What follows begins another flow, by another plan.
        () = changes(proxy, unproven) => Ok(()),
    }
}

/// The application that plaintext leads to, if policies let it in.
fn application(proxy: &PodProxy, open: &Open) -> Result<End, Failure> {
    let plan = passthrough::admit(proxy, open)?;
    let (settings, caller) = (proxy.shared.settings(), open.ends().source.ip());
    dial::datagrams(&proxy.pod.sockets, &plan, caller, settings).map(End::Socket)
}

async fn changes(proxy: &PodProxy, workload: Option<Arc<Workload>>) {
    match workload {
        Some(workload) => proxy.shared.changes(&workload).await,
        None => std::future::pending().await,
    }
}
