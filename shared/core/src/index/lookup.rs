//! Questions to an [`Index`]. All are constant-time (a CIDR lookup: one probe for each prefix
//! length in use) and allocate nothing.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Applicable, Endpoints, Index};
use crate::addr::{NamespacedName, NetworkAddr};
use crate::model::{Destination, Service, Workload};

impl Index {
    /// The workload with this uid.
    #[must_use]
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload whose own address this is. Host-network pods have none. While an address
    /// moves between pods the latest claim counts. What runs on no node, as an endpoint that a
    /// `ServiceEntry` names, takes no pod's address away.
    #[must_use]
    pub fn workload_at(&self, addr: &NetworkAddr) -> Option<&Arc<Workload>> {
        let claimants = self.addresses.get(addr)?.as_slice();
        let pod = claimants.iter().find(|it| it.is_pod());
        pod.or(claimants.first())
    }

    /// Whether this is the address of a node, as far as workloads tell that share their node's.
    #[must_use]
    pub fn is_of_a_node(&self, addr: &NetworkAddr) -> bool {
        self.nodes.contains_key(addr)
    }

    /// The service with this `namespace/hostname`.
    #[must_use]
    pub fn service(&self, key: &NamespacedName) -> Option<&Arc<Service>> {
        self.services.get(key)?.service.as_ref()
    }

    /// The endpoints of a service, which may be known before the service is.
    #[must_use]
    pub fn endpoints(&self, key: &NamespacedName) -> Option<&Endpoints> {
        self.services.get(key).map(|entry| &entry.endpoints)
    }

    /// The service with this virtual IP, as a client of that namespace sees it: exact addresses
    /// before ranges, longer prefixes before shorter; see [`Index::service_by_hostname`] for ties.
    /// The address of a pod is no service's of another namespace, whatever a `ServiceEntry` says.
    #[must_use]
    pub fn service_at(&self, addr: &NetworkAddr, client_namespace: &str) -> Option<&Arc<Service>> {
        let seen = |claimants| preferred(claimants, client_namespace);
        let exact = self.vips.get(addr).map(|holders| holders.as_slice());
        let service = exact
            .and_then(seen)
            .or_else(|| self.ranges.find(addr, seen))?;
        let at_address = self.workload_at(addr);
        let taken = |it: &Arc<Workload>| it.is_pod() && it.namespace != service.key.namespace;
        (!at_address.is_some_and(taken)).then_some(service)
    }

    /// The service with this hostname, as a client of that namespace sees it: one of its own
    /// namespace first, then the canonical one, then the first by name. Private services of
    /// other namespaces do not exist for it.
    #[must_use]
    pub fn service_by_hostname(
        &self,
        hostname: &str,
        client_namespace: &str,
    ) -> Option<&Arc<Service>> {
        preferred(self.hostnames.get(hostname)?.as_slice(), client_namespace)
    }

    /// What a gateway's address stands for.
    #[must_use]
    pub fn destination(&self, destination: &Destination) -> Option<Target<'_>> {
        match destination {
            Destination::Hostname(key) => self.service(key).map(Target::Service),
            Destination::Address(addr) => match self.vips.get(addr) {
                Some(holders) => first_by_name(holders.as_slice()).map(Target::Service),
                None => self.workload_at(addr).map(Target::Workload),
            },
        }
    }

    /// Each policy that applies to this workload, once, in an order that does not depend on
    /// arrival. What is not understood or not known is reported, and must deny.
    pub fn policies_for<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Applicable<'a>> + 'a {
        self.policies.applicable(workload)
    }

    /// A policy by name.
    #[must_use]
    pub fn policy(&self, key: &NamespacedName) -> Option<Applicable<'_>> {
        self.policies.get(key)
    }

    /// Whether a whole push of policies has been applied. Before that nothing is authorized.
    #[must_use]
    pub fn policies_synced(&self) -> bool {
        self.policies.synced
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services
            .values()
            .filter_map(|entry| entry.service.as_ref())
    }

    /// All policies, in no order.
    pub fn policies(&self) -> impl Iterator<Item = Applicable<'_>> {
        self.policies.iter()
    }
}

/// What an address or hostname stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A service.
    Service(&'a Arc<Service>),
    /// A workload.
    Workload(&'a Arc<Workload>),
}

fn preferred<'a>(claimants: &'a [Arc<Service>], namespace: &str) -> Option<&'a Arc<Service>> {
    claimants
        .iter()
        .filter(|service| !service.namespace_private || &*service.key.namespace == namespace)
        .max_by_key(|service| {
            let own = &*service.key.namespace == namespace;
            (own, service.canonical, Reverse(&service.key))
        })
}

fn first_by_name(claimants: &[Arc<Service>]) -> Option<&Arc<Service>> {
    claimants
        .iter()
        .max_by_key(|service| (service.canonical, Reverse(&service.key)))
}
