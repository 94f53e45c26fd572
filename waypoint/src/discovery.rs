//! What the control plane pushes, taken into the snapshot: decoded, applied as a whole, published once,
//! with everything that was rejected named.

use std::sync::Arc;

use ambit_core::convert::address_change;
use ambit_core::index::Change;
use ambit_http::config;
use ambit_http::convert;
use ambit_net::xds::{Handler, Push, Rejection};
use ambit_proto::{ADDRESS_TYPE, WAYPOINT_TYPE};
use arc_swap::ArcSwap;

use crate::snapshot::Snapshot;

/// Types that a waypoint subscribes to.
pub(crate) const TYPES: [&str; 2] = [ADDRESS_TYPE, WAYPOINT_TYPE];

/// Takes pushes into the snapshot.
pub(crate) struct Discovery(pub(crate) Arc<ArcSwap<Snapshot>>);

impl Handler for Discovery {
    fn apply(&mut self, push: Push) -> Result<(), Vec<Rejection>> {
        let mut snapshot = Snapshot::clone(&self.0.load());
        let mut rejected = Vec::new();
        match &*push.type_url {
            ADDRESS_TYPE => addresses(&mut snapshot, &push, &mut rejected),
            WAYPOINT_TYPE => resources(&mut snapshot, &push, &mut rejected),
            other => rejected.extend(push.resources.iter().map(|resource| Rejection {
                name: resource.name.clone(),
                reason: format!("{other} was not asked for"),
            })),
        }
        self.0.store(Arc::new(snapshot));
        for Rejection { name, reason } in &rejected {
            tracing::warn!(
                type_url = &*push.type_url,
                name,
                reason,
                "resource rejected"
            );
        }
        match rejected.is_empty() {
            true => Ok(()),
            false => Err(rejected),
        }
    }
}

fn addresses(snapshot: &mut Snapshot, push: &Push, rejected: &mut Vec<Rejection>) {
    for name in &push.removed {
        snapshot
            .index
            .apply(Change::RemoveAddress(name.as_str().into()));
    }
    for resource in &push.resources {
        match address_change(&resource.name, &resource.body) {
            Ok(change) => snapshot.index.apply(change),
            Err(error) => rejected.push(Rejection {
                name: resource.name.clone(),
                reason: error.to_string(),
            }),
        }
    }
}

fn resources(snapshot: &mut Snapshot, push: &Push, rejected: &mut Vec<Rejection>) {
    for name in &push.removed {
        snapshot
            .config
            .apply(config::Change::Remove(convert::key(name)));
    }
    for resource in &push.resources {
        let (change, error) = convert::change(&resource.name, &resource.body);
        snapshot.config.apply(change);
        rejected.extend(error.map(|error| Rejection {
            name: resource.name.clone(),
            reason: error.to_string(),
        }));
    }
}
