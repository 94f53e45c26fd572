//! Between two pods of this node: one relay between two sockets, no wire, no TLS.
//!
//! The kernel vouches for both ends: the client's socket was accepted in its pod's network
//! namespace, the server's is made in the other's. The receiving side is planned and authorized
//! exactly as if a tunnel had arrived there.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::index::Index;
use ambit_core::model::{Service, Workload};
use ambit_core::plan::Refusal;
use tokio::net::TcpStream;

use super::{Failure, Pod, PodProxy, dial};
use crate::connections::{Asked, Claim, Open, Planned, judge};

/// Connects to the application in `workload`, as this proxy's pod.
pub(super) async fn connect(
    proxy: &PodProxy,
    open: &Open,
    workload: &Workload,
    destination: SocketAddr,
    service: Option<&Service>,
) -> Result<TcpStream, Failure> {
    let (neighbour, admitted, client) = admit(proxy, open, workload, destination, service)?;
    let settings = proxy.shared.settings();
    let sockets = &neighbour.sockets;
    let dialled = dial::application(sockets, &admitted.plan, client.ip(), settings).await;
    if dialled.is_err() {
        open.disclaim();
    }
    dialled
}

/// What this proxy's pod opens to `workload`, planned and authorized there: the pod, where in it to connect, and the client as the pod is to see it.
pub(super) fn admit(
    proxy: &PodProxy,
    open: &Open,
    workload: &Workload,
    destination: SocketAddr,
    service: Option<&Service>,
) -> Result<(Arc<Pod>, Planned, SocketAddr), Failure> {
    let shared = &proxy.shared;
    let neighbour = shared.pod(&workload.uid).ok_or_else(|| {
        let (namespace, name) = (&workload.namespace, &workload.name);
        Refusal::unavailable(format!(
            "{namespace}/{name} is no longer served by this node"
        ))
    })?;
    let client = as_its_pod(&shared.index(), &proxy.pod.uid, open.ends().source)?;
    let claim = Claim {
        local: neighbour.uid.clone(),
        peer_addr: client,
        transport: open.ends().transport,
        asked: Asked::Tunnel {
            peer: proxy.pod.identity()?.identity().clone(),
            socket: destination,
            authority: destination.to_string().into(),
            forwarded_host: service.map(|service| Box::from(&*service.key.name)),
            forwarded_for: None,
            caller: None,
        },
    };
    open.claim(claim.clone());
    let admitted = judge(&shared.index(), &claim)?;
    Ok((neighbour, admitted, client))
}

/// The client by an address of its pod, as a wire would show it: what else a pod calls itself is
/// not believed.
fn as_its_pod(index: &Index, uid: &str, client: SocketAddr) -> Result<SocketAddr, Refusal> {
    let addresses = index.workload(uid).map_or(&[][..], |pod| &pod.addresses);
    let ip = client.ip().to_canonical();
    if addresses.contains(&ip) {
        return Ok(client);
    }
    let own = addresses.iter().find(|own| own.is_ipv4() == ip.is_ipv4());
    let own = own.ok_or_else(|| Refusal::unavailable(format!("{ip} is no address of the pod")))?;
    Ok(SocketAddr::new(*own, client.port()))
}
