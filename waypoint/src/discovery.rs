//! What the control plane pushes, taken into the snapshot: decoded, applied as a whole, published once,
//! with everything that was rejected named.

use std::sync::Arc;

use ambit_core::convert::address_change;
use ambit_core::index::Change;
use ambit_core::model::Workload;
use ambit_http::config;
use ambit_http::convert;
use ambit_http::model::ResourceKey;
use ambit_net::xds::{Handler, Push, Rejection};
use ambit_proto::{ADDRESS_TYPE, WAYPOINT_TYPE};
use ambit_proxy::{Departed, Published};
use tokio::sync::watch;

use crate::session::Sessions;
use crate::snapshot::Snapshot;

/// Types that a waypoint subscribes to.
pub(crate) const TYPES: [&str; 2] = [ADDRESS_TYPE, WAYPOINT_TYPE];

/// Takes pushes into the snapshot.
pub(crate) struct Discovery {
    pub(crate) current: Arc<Published<Snapshot>>,
    pub(crate) departed: Arc<Departed>,
    /// Told of changed policies, once they are in force.
    pub(crate) policies: watch::Sender<()>,
    /// Those whose service has gone to another waypoint end in order.
    pub(crate) sessions: Arc<Sessions>,
}

impl Handler for Discovery {
    fn apply(&mut self, push: Push) -> Result<(), Vec<Rejection>> {
        let mut snapshot = Snapshot::clone(&self.current.load());
        let mut rejected = Vec::new();
        let mut addressed = Addressed::default();
        let mut judging = false;
        match &*push.type_url {
            ADDRESS_TYPE => addressed = addresses(&mut snapshot, &push, &mut rejected),
            WAYPOINT_TYPE => judging = resources(&mut snapshot, &push, &mut rejected),
            other => rejected.extend(push.resources.iter().map(|resource| Rejection {
                name: resource.name.clone(),
                reason: format!("{other} was not asked for"),
            })),
        }
        let snapshot = Arc::new(snapshot);
        self.current.replace(snapshot.clone());
        self.departed.add(&addressed.gone);
        if addressed.services {
            let sessions = self.sessions.all().into_iter();
            for session in sessions.filter_map(|it| it.upgrade()) {
                if !session.is_wanted(&snapshot) {
                    session.ending.begin();
                }
            }
        }
        if judging {
            self.policies.send_replace(());
        }
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

/// What a push of addresses was about.
#[derive(Default)]
struct Addressed {
    /// The workloads that left.
    gone: Vec<Arc<Workload>>,
    /// Whether services are among them.
    services: bool,
}

fn addresses(snapshot: &mut Snapshot, push: &Push, rejected: &mut Vec<Rejection>) -> Addressed {
    let index = &mut snapshot.index;
    let mut addressed = Addressed::default();
    for name in &push.removed {
        match index.workload(name) {
            Some(workload) => addressed.gone.push(workload.clone()),
            None => addressed.services = true,
        }
        index.apply(Change::RemoveAddress(name.as_str().into()));
    }
    for resource in &push.resources {
        match address_change(&resource.name, &resource.body) {
            Ok(change) => {
                addressed.services |= matches!(change, Change::Service(_));
                index.apply(change);
            }
            Err(error) => rejected.push(Rejection {
                name: resource.name.clone(),
                reason: error.to_string(),
            }),
        }
    }
    addressed
}

/// Says whether policies are among them.
fn resources(snapshot: &mut Snapshot, push: &Push, rejected: &mut Vec<Rejection>) -> bool {
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
    let mut names = push
        .removed
        .iter()
        .chain(push.resources.iter().map(|it| &it.name));
    names.any(|name| matches!(convert::key(name), ResourceKey::Policy(_)))
}
