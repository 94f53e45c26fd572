//! Who left the mesh.

use std::collections::HashSet;
use std::sync::Arc;

use ambit_core::index::Index;
use ambit_core::model::Workload;
use parking_lot::Mutex;

/// Owners of workloads that left the mesh. Their metrics end once the last of them is gone.
#[derive(Debug, Default)]
pub struct Departed(Mutex<HashSet<(Arc<str>, Arc<str>)>>);

impl Departed {
    /// These workloads have left.
    pub fn add(&self, workloads: &[Arc<Workload>]) {
        if workloads.is_empty() {
            return;
        }
        let names = workloads
            .iter()
            .map(|w| (w.namespace.clone(), w.workload_name.clone()));
        self.0.lock().extend(names);
    }

    /// The owners that have no workload left, as (namespace, workload name). Asks the index only
    /// when something left.
    #[must_use]
    pub fn take(&self, index: &Index) -> HashSet<(Arc<str>, Arc<str>)> {
        let mut gone = std::mem::take(&mut *self.0.lock());
        if !gone.is_empty() {
            for workload in index.workloads() {
                gone.remove(&(workload.namespace.clone(), workload.workload_name.clone()));
            }
        }
        gone
    }
}
