//! The plans of one connection: what has failed is left out of the next.
//!
//! An endpoint that discovery knows by the name of a host is reached at any of the host's addresses, which are found out when a plan
//! turns out to need them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::model::Workload;
use ambit_core::plan::{Outbound, OutboundKind, OutboundPlan, Refusal, plan_outbound};
use ambit_net::hbone::Target;
use futures_util::future::join_all;

use super::PodProxy;
use crate::connections::Ends;

/// How often a connection to a service is tried.
const ATTEMPTS: usize = 3;

/// The pod that connects, and where to.
type Planned = Result<(Arc<Workload>, OutboundPlan), Refusal>;

/// What one connection knows and has tried.
#[derive(Default)]
pub(super) struct Attempts {
    failed: usize,
    /// Uids of endpoints that failed.
    tried: Vec<Arc<str>>,
    /// The addresses of hosts that have not failed.
    hosts: BTreeMap<Arc<str>, Vec<IpAddr>>,
}

impl Attempts {
    /// Where to connect next.
    pub(super) async fn plan(&mut self, proxy: &PodProxy, ends: Ends) -> Planned {
        let missing = RefCell::default();
        let planned = self.plan_with_known_hosts(proxy, ends, &missing);
        let missing: BTreeSet<Arc<str>> = missing.into_inner();
        if missing.is_empty() {
            return planned;
        }
        drop(planned);
        Box::pin(self.find(proxy, missing)).await;
        self.plan_with_known_hosts(proxy, ends, &RefCell::default())
    }

    /// Leaves out where a plan has led in vain: one address of a host that has more, else the endpoint. `false` when that was the
    /// last attempt.
    pub(super) fn go_on_without(&mut self, plan: &OutboundPlan, workload: &Workload) -> bool {
        self.failed += 1;
        let others = match (self.hosts.get_mut(&workload.hostname), &plan.kind) {
            (Some(addresses), OutboundKind::Plain { target }) => {
                addresses.retain(|ip| *ip != target.ip());
                !addresses.is_empty()
            }
            _ => false,
        };
        if !others {
            self.tried.push(workload.uid.clone());
        }
        self.failed < ATTEMPTS
    }

    /// The plan, and in `missing` the hosts whose addresses would have been of use.
    fn plan_with_known_hosts(
        &self,
        proxy: &PodProxy,
        ends: Ends,
        missing: &RefCell<BTreeSet<Arc<str>>>,
    ) -> Planned {
        let shared = &proxy.shared;
        let index = shared.index();
        let source = index
            .workload(&proxy.pod.uid)
            .ok_or_else(|| proxy.pod.unknown())?;
        let local =
            |workload: &Workload| shared.settings().node_local && shared.serves(&workload.uid);
        let streams = |address: SocketAddr, identities: &[Identity]| {
            let identities = identities.into();
            proxy.pool.streams(&Target {
                address,
                identities,
            })
        };
        let hosts = |host: &Arc<str>| {
            let known = self.hosts.get(host).cloned();
            if known.is_none() {
                missing.borrow_mut().insert(host.clone());
            }
            known
        };
        let outbound = Outbound {
            source,
            source_addr: ends.source,
            destination: ends.destination,
            transport: ends.transport,
            local: &local,
            streams: &streams,
            hosts: &hosts,
            exclude: &self.tried,
            policy: shared.settings().outbound_policy,
        };
        let mut picker = |bound: u32| rand::random_range(0..bound);
        let plan = plan_outbound(&index, &outbound, &mut picker)?;
        Ok((source.clone(), plan))
    }

    async fn find(&mut self, proxy: &PodProxy, hosts: BTreeSet<Arc<str>>) {
        let source = proxy.shared.index().workload(&proxy.pod.uid).cloned();
        let own = source.as_ref().map_or(&[][..], |pod| &pod.addresses);
        let found = hosts.into_iter().map(|host| async move {
            let addresses = proxy.shared.hosts().addresses(&host, own).await;
            (host, addresses)
        });
        self.hosts.extend(join_all(found).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{addr, workload};

    #[test]
    fn an_address_of_a_host_fails_before_the_host_does() {
        let mut named = workload("db", "192.0.2.1");
        named.addresses.clear();
        named.hostname = "db.example.com".into();
        let plain = |target: &str| OutboundPlan {
            kind: OutboundKind::Plain {
                target: addr(target),
            },
            workload: None,
            service: None,
        };
        let mut attempts = Attempts::default();
        let addresses = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().expect("an address"));
        attempts
            .hosts
            .insert("db.example.com".into(), addresses.to_vec());
        assert!(attempts.go_on_without(&plain("192.0.2.1:80"), &named));
        assert_eq!(attempts.hosts["db.example.com"], addresses[1..]);
        assert!(attempts.tried.is_empty());
        assert!(attempts.go_on_without(&plain("192.0.2.2:80"), &named));
        assert_eq!(attempts.tried, [named.uid.clone()]);
        let other = workload("web", "192.0.2.3");
        assert!(
            !attempts.go_on_without(&plain("192.0.2.3:80"), &other),
            "the third"
        );
        assert_eq!(attempts.tried, [named.uid, other.uid]);
    }
}
