//! Series of one kind, found by their labels.
//!
//! A label set is resolved by a hash over borrowed values, and nothing is allocated unless the set is new. After
//! that, counting is an atomic add.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

use super::parties::Parties;

/// Independent locks, so that workers do not wait for each other.
const SHARDS: usize = 16;

/// The counts of one label set.
pub trait Counted {
    /// Whose they are.
    fn parties(&self) -> &Parties;

    /// Writes all labels.
    fn write_labels(&self, out: &mut String);
}

/// All series of a kind.
#[derive(Debug)]
pub struct Table<S> {
    hasher: DefaultHashBuilder,
    retirements: AtomicU64,
    shards: [RwLock<HashTable<Entry<S>>>; SHARDS],
}

#[derive(Debug)]
struct Entry<S> {
    hash: u64,
    retired: AtomicBool,
    series: Arc<S>,
}

impl<S> Entry<S> {
    fn found(&self) -> Arc<S> {
        self.retired.store(false, Ordering::Relaxed);
        self.series.clone()
    }
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            retirements: AtomicU64::new(0),
            shards: std::array::from_fn(|_| RwLock::default()),
        }
    }
}

impl<S: Counted> Table<S> {
    /// The series that `is` the one with these labels; a `new` one when there is none.
    pub(super) fn find(
        &self,
        labels: impl Hash,
        is: impl Fn(&S) -> bool,
        new: impl FnOnce() -> S,
    ) -> Arc<S> {
        let hash = self.hasher.hash_one(labels);
        let shard = &self.shards[hash as usize % SHARDS];
        let same = |entry: &Entry<S>| entry.hash == hash && is(&entry.series);
        if let Some(entry) = shard.read().find(hash, same) {
            return entry.found();
        }
        let entry = || Entry {
            hash,
            retired: AtomicBool::new(false),
            series: Arc::new(new()),
        };
        let mut table = shard.write();
        let found = table.entry(hash, same, |entry| entry.hash);
        found.or_insert_with(entry).get().found()
    }

    /// Marks the series with a party (namespace, workload name) that is gone from the mesh. They are shown once
    /// more and then dropped, unless somebody still holds or finds them.
    pub fn retire(&self, mut gone: impl FnMut(&str, &str) -> bool) {
        self.retirements.fetch_add(1, Ordering::Relaxed);
        for shard in &self.shards {
            for entry in shard.read().iter() {
                let parties = entry.series.parties().workloads();
                if parties.iter().any(|(ns, name)| gone(ns, name)) {
                    entry.retired.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// How often series were retired. Whoever remembers a series without holding it looks it up again after that.
    #[must_use]
    pub fn retirements(&self) -> u64 {
        self.retirements.load(Ordering::Relaxed)
    }

    /// The number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All series and their labels as text; drops the retired ones that nobody holds.
    pub(super) fn take_stock(&self) -> Vec<(Arc<S>, String)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            shard.write().retain(|entry| {
                let held = Arc::strong_count(&entry.series) > 1;
                all.push(entry.series.clone());
                held || !entry.retired.load(Ordering::Relaxed)
            });
        }
        all.into_iter()
            .map(|series| {
                let mut labels = String::with_capacity(1024);
                series.write_labels(&mut labels);
                (series, labels)
            })
            .collect()
    }
}
