//! Between two pods of this node: one relay between two sockets, no wire, no TLS.
//!
//! The kernel vouches for both ends: the client's socket was accepted in its pod's network
//! namespace, the server's is made in the other's. The receiving side is planned and authorized
//! exactly as if a tunnel had arrived there.

use std::net::SocketAddr;

use ambit_core::model::{Service, Workload};
use ambit_core::plan::Refusal;
use tokio::net::TcpStream;

use super::{Failure, PodProxy, dial};
use crate::connections::{Asked, Claim, Open, judge};

/// Connects to the application in `workload`, as this proxy's pod.
pub(super) async fn connect(
    proxy: &PodProxy,
    open: &Open,
    workload: &Workload,
    destination: SocketAddr,
    service: Option<&Service>,
) -> Result<TcpStream, Failure> {
    let shared = &proxy.shared;
    let neighbour = shared.pod(&workload.uid).ok_or_else(|| {
        let (namespace, name) = (&workload.namespace, &workload.name);
        Refusal::unavailable(format!(
            "{namespace}/{name} is no longer served by this node"
        ))
    })?;
    let client = open.ends().source;
    let claim = Claim {
        local: neighbour.uid.clone(),
        peer_addr: client,
        asked: Asked::Tunnel {
            peer: proxy.pod.identified.identity().clone(),
            socket: destination,
            authority: destination.to_string().into(),
            forwarded_host: service.map(|service| Box::from(&*service.key.name)),
        },
    };
    open.claim(claim.clone());
    let admitted = judge(&shared.index(), &claim)?;
    dial::application(
        &neighbour.sockets,
        &admitted.plan,
        client.ip(),
        shared.settings(),
    )
    .await
}
