//! Which ServiceEntries name a host. Of those of a namespace the oldest has it, or the one whose name comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use k8s_openapi::jiff::Timestamp;

use super::{age, hosts};
use crate::source::entry::ServiceEntry;

/// By namespace and host, who names it, the one that has it first.
#[derive(Debug, Clone, Default)]
pub struct Claims(BTreeMap<NamespacedName, BTreeSet<Claim>>);

/// When the entry was made, and its name.
type Claim = (Option<Timestamp>, Arc<str>);

impl Claims {
    /// An entry became another, began or ended.
    pub fn change(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        old: Option<&ServiceEntry>,
        new: Option<&ServiceEntry>,
    ) {
        let claim = |entry: &ServiceEntry| -> Claim { (age(&entry.metadata), name.clone()) };
        let key = |host: String| NamespacedName::new(namespace.clone(), host);
        for (entry, host) in old
            .iter()
            .flat_map(|old| hosts(old).map(move |it| (old, it)))
        {
            let key = key(host);
            if let Some(claims) = self.0.get_mut(&key) {
                claims.remove(&claim(entry));
                if claims.is_empty() {
                    self.0.remove(&key);
                }
            }
        }
        for (entry, host) in new
            .iter()
            .flat_map(|new| hosts(new).map(move |it| (new, it)))
        {
            self.0.entry(key(host)).or_default().insert(claim(entry));
        }
    }

    /// The names of the entries that name the host of this key, the one that has it first.
    pub fn of(&self, key: &NamespacedName) -> impl Iterator<Item = &Arc<str>> {
        let claims = self.0.get(key).into_iter().flatten();
        claims.map(|(_, name)| name)
    }
}
