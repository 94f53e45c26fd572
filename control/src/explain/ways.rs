//! The waypoints that a new connection to a Service may take.

use ambit_core::addr::NamespacedName;
use ambit_core::balance::Picker;
use ambit_core::index::Index;
use ambit_core::model::{Destination, GatewayAddress, Service, Workload};
use ambit_core::plan::{Tunnel, is_instance};

/// One of the waypoints that share the new connections of a Service; or all there is, when nothing is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way<'a> {
    /// The waypoint.
    pub(super) waypoint: Option<&'a GatewayAddress>,
    /// Its share, in percent, when others have one as well.
    pub(super) share: Option<u64>,
    /// What a node proxy draws that takes it.
    draw: u32,
}

/// The waypoints that a new connection may be drawn for.
pub(super) fn ways(service: &Service) -> Vec<Way<'_>> {
    let weighted = &service.weighted_waypoints;
    let total: u64 = weighted.iter().map(|it| u64::from(it.weight)).sum();
    let mut draw = 0;
    let mut ways = Vec::new();
    for it in weighted {
        if it.weight > 0 {
            let share = u64::from(it.weight) * 100 / total;
            ways.push(Way {
                waypoint: Some(&it.waypoint),
                share: (share < 100).then_some(share),
                draw,
            });
            draw = draw.saturating_add(it.weight);
        }
    }
    if ways.is_empty() {
        ways.push(Way {
            waypoint: service.waypoint.as_ref(),
            share: None,
            draw,
        });
    }
    ways
}

impl Way<'_> {
    /// Draws this waypoint, which is what a plan draws first, and the first of everything else.
    pub(super) fn picker(&self) -> impl Picker + use<> {
        let mut draw = Some(self.draw);
        move |_| draw.take().unwrap_or_default()
    }
}

/// The gateway between networks on the way of a tunnel, if there is one.
pub(super) fn across(tunnel: &Tunnel) -> String {
    let Some(gateway) = &tunnel.gateway else {
        return String::new();
    };
    let of = &gateway.workload;
    format!(
        ", through gateway {}/{} of network {}",
        of.namespace, of.name, of.network
    )
}

/// The Gateway of a waypoint.
pub(super) fn gateway(waypoint: &GatewayAddress) -> Option<NamespacedName> {
    match &waypoint.destination {
        Destination::Hostname(key) => {
            let name = key.name.split('.').next().unwrap_or_default();
            Some(NamespacedName::new(key.namespace.clone(), name))
        }
        Destination::Address(_) => None,
    }
}

/// The one of a service's waypoints that this workload is an instance of.
pub(super) fn of_instance<'a>(
    mesh: &Index,
    service: &'a Service,
    instance: &Workload,
) -> Option<&'a GatewayAddress> {
    let mut all = service.waypoints();
    all.find(|waypoint| is_instance(mesh, waypoint, instance))
}
