//! What the control plane pushes, taken into the index: decoded, applied as a whole, published
//! once, with everything that was rejected named.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::convert::{address_change, authorization_change, policy_key};
use ambit_core::index::{Change, Index};
use ambit_core::model::Workload;
use ambit_net::xds::{Handler, Push, Rejection};
use ambit_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use ambit_proxy::Departed;
use tokio::sync::watch;

use crate::proxy::Shared;

/// Types that this proxy subscribes to.
pub const TYPES: [&str; 2] = [ADDRESS_TYPE, AUTHORIZATION_TYPE];

/// Takes pushes into the index of `shared`.
pub struct Discovery {
    shared: Arc<Shared>,
    departed: Arc<Departed>,
    changes: watch::Sender<u64>,
}

impl Discovery {
    /// A handler of pushes, and a number that grows with every push.
    #[must_use]
    pub fn new(shared: Arc<Shared>, departed: Arc<Departed>) -> (Self, watch::Receiver<u64>) {
        let (changes, changed) = watch::channel(0);
        let discovery = Self {
            shared,
            departed,
            changes,
        };
        (discovery, changed)
    }
}

impl Handler for Discovery {
    fn apply(&mut self, push: Push) -> Result<(), Vec<Rejection>> {
        let mut index = Index::clone(&self.shared.index());
        let mut gone = Gone::default();
        let rejected = match &*push.type_url {
            ADDRESS_TYPE => addresses(&mut index, &push, &mut gone),
            AUTHORIZATION_TYPE => policies(&mut index, &push),
            other => {
                let reason = format!("{other} was not asked for");
                let reject = |name| Rejection {
                    name,
                    reason: reason.clone(),
                };
                push.resources
                    .iter()
                    .map(|r| reject(r.name.clone()))
                    .collect()
            }
        };
        let in_use = |ip: &IpAddr| gone.addresses_kept.contains(ip);
        let evicted: Vec<IpAddr> = gone
            .addresses
            .iter()
            .filter(|ip| !in_use(ip))
            .copied()
            .collect();
        self.shared.publish(index);
        if !evicted.is_empty() {
            self.shared.evict(&evicted);
        }
        self.departed.add(&gone.workloads);
        self.changes.send_modify(|count| *count += 1);
        if rejected.is_empty() {
            return Ok(());
        }
        for Rejection { name, reason } in &rejected {
            tracing::warn!(
                type_url = &*push.type_url,
                name,
                reason,
                "resource rejected"
            );
        }
        Err(rejected)
    }
}

/// What a push takes away.
#[derive(Default)]
struct Gone {
    addresses: Vec<IpAddr>,
    addresses_kept: HashSet<IpAddr>,
    workloads: Vec<Arc<Workload>>,
}

fn addresses(index: &mut Index, push: &Push, gone: &mut Gone) -> Vec<Rejection> {
    let mut rejected = Vec::new();
    for name in &push.removed {
        if let Some(workload) = index.workload(name) {
            gone.addresses.extend(&workload.addresses);
            gone.workloads.push(workload.clone());
        }
        index.apply(Change::RemoveAddress(name.as_str().into()));
    }
    for resource in &push.resources {
        let change = match address_change(&resource.name, &resource.body) {
            Ok(change) => change,
            Err(error) => {
                rejected.push(Rejection {
                    name: resource.name.clone(),
                    reason: error.to_string(),
                });
                continue;
            }
        };
        if let Change::Workload(new) = &change
            && let Some(old) = index.workload(&new.uid)
            && old.addresses != new.addresses
        {
            gone.addresses.extend(&old.addresses);
            gone.addresses_kept.extend(&new.addresses);
        }
        index.apply(change);
    }
    rejected
}

fn policies(index: &mut Index, push: &Push) -> Vec<Rejection> {
    let mut rejected = Vec::new();
    for name in &push.removed {
        index.apply(Change::RemovePolicy(policy_key(name)));
    }
    for resource in &push.resources {
        let (change, error) = authorization_change(&resource.name, &resource.body);
        index.apply(change);
        rejected.extend(error.map(|error| Rejection {
            name: resource.name.clone(),
            reason: error.to_string(),
        }));
    }
    if push.complete {
        index.apply(Change::PoliciesSynced);
    }
    rejected
}

#[cfg(test)]
mod tests;
