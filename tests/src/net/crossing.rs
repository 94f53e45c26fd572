//! Between networks of nodes: pods of one have no route to those of another, but to the gateways that lead into it. To these they
//! go under their node's address, as through a router that hides its network: nothing comes back to a pod's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_control::translate::network::CLASSES;
use ambit_control::translate::workload::is_over;
use ambit_control::waypoints::GATEWAY_CLASS;
use ambit_net::netlink::nft::Rule;
use ambit_net::netlink::route::{Handle, Route};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;

use super::topology;
use crate::api::Store;
use crate::cluster::LabNode;

/// The addresses of gateways that lead into networks, and the nodes they are on.
pub type Gateways = BTreeMap<IpAddr, u8>;

/// Those that run.
#[must_use]
pub fn gateways(store: &Store, nodes: &[Arc<LabNode>]) -> Gateways {
    let mut found = Gateways::new();
    for (_, pod) in store.pods.iter().filter(|(_, pod)| is_gateway(pod)) {
        if is_over(pod) {
            continue;
        }
        let spec = pod.spec.as_ref();
        let name = spec.and_then(|spec| spec.node_name.as_deref());
        let Some(node) = nodes.iter().find(|node| Some(&*node.name) == name) else {
            continue;
        };
        let ips = pod.status.iter().flat_map(|it| it.pod_ips.iter().flatten());
        let ips = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
        found.extend(ips.map(|ip| (ip, node.number)));
    }
    found
}

fn is_gateway(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let class = labels.and_then(|labels| labels.get(GATEWAY_CLASS));
    class.is_some_and(|class| CLASSES.contains(&class.as_str()))
}

/// A node on another network than a gateway's.
struct Foreign<'a> {
    node: &'a LabNode,
    gateway: IpAddr,
    behind: u8,
}

fn foreign<'a>(
    gateways: &'a Gateways,
    nodes: &'a [Arc<LabNode>],
) -> impl Iterator<Item = Foreign<'a>> + 'a {
    gateways.iter().flat_map(move |(gateway, behind)| {
        let of = nodes.iter().find(|node| node.number == *behind);
        let others = nodes
            .iter()
            .filter(move |node| of.is_some_and(|of| of.network != node.network));
        others.map(|node| Foreign {
            node,
            gateway: *gateway,
            behind: *behind,
        })
    })
}

/// What gives packets for gateways the addresses of the nodes they leave.
#[must_use]
pub fn rules(gateways: &Gateways, nodes: &[Arc<LabNode>]) -> Vec<Rule> {
    let all = foreign(gateways, nodes).flat_map(|it| {
        let ranges = topology::pod_ranges(it.node.number).into_iter();
        let same = ranges.filter(move |range| range.addr().is_ipv4() == it.gateway.is_ipv4());
        same.map(move |range| {
            let to = Rule::new()
                .source(range)
                .destination(IpNet::from(it.gateway));
            to.masquerade()
        })
    });
    all.collect()
}

/// Routes to gateways, as they are in force: on which node, to which address, by which node.
#[derive(Debug, Default)]
pub struct Routes(BTreeSet<(u8, IpAddr, u8)>);

impl Routes {
    /// Puts those to these gateways in force, and no others.
    ///
    /// # Errors
    /// The last thing that the kernel refused; the rest is done.
    pub fn set(&mut self, gateways: &Gateways, nodes: &[Arc<LabNode>]) -> io::Result<()> {
        let wanted = foreign(gateways, nodes).map(|it| (it.node.number, it.gateway, it.behind));
        let wanted: BTreeSet<_> = wanted.collect();
        let change = |(on, to, by): (u8, IpAddr, u8), add: bool| {
            let Some(node) = nodes.iter().find(|node| node.number == on) else {
                return Ok(());
            };
            let route: Route = topology::route_by_node(to, by);
            node.netns.netns().run(|| {
                let mut links = Handle::open()?;
                match add {
                    true => links.add_route(&route)?,
                    false => links.delete_route(&route)?,
                }
                Ok(())
            })
        };
        let mut done = Ok(());
        for gone in self.0.difference(&wanted).copied().collect::<Vec<_>>() {
            match change(gone, false) {
                Ok(()) => drop(self.0.remove(&gone)),
                Err(error) => done = Err(error),
            }
        }
        for new in wanted.difference(&self.0).copied().collect::<Vec<_>>() {
            match change(new, true) {
                Ok(()) => drop(self.0.insert(new)),
                Err(error) => done = Err(error),
            }
        }
        done
    }
}
