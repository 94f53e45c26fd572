//! The retry budgets of services.

use std::sync::Arc;
use std::time::Instant;

use ambit_core::addr::NamespacedName;
use ambit_http::model::traffic::RetryBudget;
use ambit_http::retry::Budget;
use ambit_http::route::Forward;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::snapshot::Snapshot;

/// One a service, shared by all workers.
#[derive(Default)]
pub(super) struct Budgets(RwLock<HashMap<NamespacedName, Entry>>);

struct Entry {
    budget: Arc<Mutex<Budget>>,
    how: RetryBudget,
}

impl Budgets {
    /// The budget of the service that a request goes to, as its traffic policy wants it now.
    pub(super) fn of(&self, snapshot: &Snapshot, forward: &Forward) -> Arc<Mutex<Budget>> {
        let traffic = snapshot.config.traffic(&forward.service, forward.port);
        let how = traffic.map(|it| &it.retry_budget);
        if let Some(entry) = self.0.read().get(&forward.service)
            && how.map_or(entry.how == RetryBudget::default(), |it| *it == entry.how)
        {
            return entry.budget.clone();
        }
        let how = how.cloned().unwrap_or_default();
        let now = Instant::now();
        let mut all = self.0.write();
        let entry = all.entry(forward.service.clone()).or_insert_with(|| Entry {
            budget: Arc::new(Mutex::new(Budget::new(how.clone(), now))),
            how: how.clone(),
        });
        entry.budget.lock().reconfigure(how.clone(), now);
        entry.how = how;
        entry.budget.clone()
    }

    /// Forgets services that are gone.
    pub(super) fn retain(&self, there: impl Fn(&NamespacedName) -> bool) {
        self.0.write().retain(|service, _| there(service));
    }
}
