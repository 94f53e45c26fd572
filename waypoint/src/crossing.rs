//! A gateway between networks: what a tunnel carries goes as it is to the HBONE port of a pod of the gateway's own network.
//!
//! In it is a session between the caller and that pod, which prove to each other who they are. The gateway knows who opened the
//! tunnel and which pod it leads to; policies are the pod's to judge.

mod record;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::plan;
use ambit_http::refusal::{Flag, Refusal};
use ambit_net::hbone::server::Connect;
use ambit_net::relay::{Far, relay_tunnel};
use ambit_net::sys::Sockets;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use record::Record;

use crate::session::Caller;
use crate::shared::Shared;

/// How long a pod has to take the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// A tunnel of which one direction has ended is given up when the other is idle for this long.
const HALF_CLOSED: Duration = Duration::from_secs(3600);

/// Serves a tunnel into `network` to its end.
pub(crate) async fn serve(shared: Arc<Shared>, caller: Caller, connect: Connect, network: &str) {
    let mut record = Record::new(&shared, &caller, connect.authority());
    let pod = match lead(&shared, network, connect.authority(), &mut record).await {
        Ok(pod) => pod,
        Err(refusal) => {
            record.refuse(&refusal);
            let status = StatusCode::from_u16(refusal.status);
            return connect.refuse(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
        }
    };
    // A peer that is gone needs no tunnel.
    let Ok(stream) = connect.accept(HeaderMap::new()) else {
        return record.abandoned();
    };
    let (far, counters) = (Far::Established(stream), record.opened());
    let ended = relay_tunnel(pod, far, &counters, HALF_CLOSED, |_| {}).await;
    record.ended(&ended);
}

/// Connects to the pod that is asked for.
async fn lead(
    shared: &Shared,
    network: &str,
    authority: &str,
    record: &mut Record<'_>,
) -> Result<TcpStream, Refusal> {
    let planned = plan::plan_crossing(&shared.snapshot().index, network, &shared.me, authority);
    let (workload, address) = planned
        .map_err(|it| Refusal::new(it.status, Flag::NoClusterFound, it.reason.to_string()))?;
    record.leads_to(workload, address);
    connect(address).await.map_err(|error| {
        let reason = format!("{address} takes no connection: {error}");
        Refusal::new(503, Flag::UpstreamConnectionFailure, reason)
    })
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let sockets = Sockets::default();
    match timeout(CONNECT, sockets.connect_to_proxy(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer in {CONNECT:?}"),
        )),
    }
}
