//! What a cluster's controller manager and scheduler do, as functions over the store: each brings
//! the objects one step nearer to what their owners ask for. They run until nothing changes. No
//! processes, sockets or clock here but the time stamps of new objects.

mod daemonset;
mod deployment;
mod endpoints;
mod garbage;
mod gateways;
mod job;
mod namespaces;
mod pods;
mod replicaset;
mod scheduler;
mod services;
mod statefulset;
#[cfg(test)]
mod tests;

use crate::api::Store;

pub use endpoints::SERVICE_NAME_LABEL;
pub use namespaces::{SYSTEM_NAMESPACES, namespace};
pub use pods::{container_statuses, is_ready, is_terminating, ready_condition};

/// More rounds than any chain of objects needs.
const MOST_ROUNDS: usize = 32;

/// Runs every controller until nothing changes any more.
pub fn reconcile(store: &mut Store) {
    for _ in 0..MOST_ROUNDS {
        let before = store.changes();
        namespaces::reconcile(store);
        garbage::reconcile(store);
        gateways::reconcile(store);
        deployment::reconcile(store);
        replicaset::reconcile(store);
        statefulset::reconcile(store);
        daemonset::reconcile(store);
        job::reconcile(store);
        services::reconcile(store);
        scheduler::reconcile(store);
        endpoints::reconcile(store);
        if store.changes() == before {
            return;
        }
    }
    tracing::error!("the controllers do not come to rest: two of them disagree");
}
