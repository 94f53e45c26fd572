//! At a gateway between networks: where the tunnel that it is asked for leads.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::reasons::Named;
use super::target::is_tunneled;
use super::waypoint::is_instance;
use super::{HBONE_PORT, Refusal, ResponseFlag};
use crate::addr::NetworkAddr;
use crate::hbone::{Authority, AuthorityError};
use crate::identity::Identity;
use crate::index::Index;
use crate::model::Workload;

/// Decides where the gateway `me` of `network` leads who asks it for `authority`: to the HBONE port of a pod of that network.
///
/// # Errors
/// 400 when the authority does not read as one; 404 when it is nothing that a gateway leads to.
pub fn plan_crossing(
    index: &Index,
    network: &str,
    me: &Identity,
    authority: &str,
) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
    let asked: Authority = authority
        .parse()
        .map_err(|error: AuthorityError| Refusal::bad_request(error.to_string()))?;
    let no = |why: fmt::Arguments<'_>| {
        let text = format!("the gateway of network {network:?} does not lead to {asked}: {why}");
        Refusal::new(404, ResponseFlag::Connect, text)
    };
    let Authority::Addr(address) = &asked else {
        return Err(no(format_args!("it is no address of a pod")));
    };
    let at = NetworkAddr::new(network, address.ip());
    let workload = index.workload_at(&at);
    let workload = workload.ok_or_else(|| no(format_args!("no pod of this network is there")))?;
    if address.port() != HBONE_PORT {
        return Err(no(format_args!(
            "tunnels alone go through, to {HBONE_PORT}"
        )));
    }
    if !is_tunneled(workload) {
        return Err(no(format_args!("{} is not in the mesh", Named(workload))));
    }
    let gateway = workload.network_gateway.as_ref();
    let leads_in = gateway.is_some_and(|gateway| is_instance(index, gateway, workload));
    if leads_in || workload.identity == *me {
        return Err(no(format_args!("it is a gateway itself")));
    }
    Ok((workload.clone(), SocketAddr::new(at.ip, HBONE_PORT)))
}
