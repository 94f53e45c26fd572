//! What runs in a process, by number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Independent locks, so that workers do not wait for each other.
const SHARDS: usize = 16;

/// Things that come and go on many threads.
#[derive(Debug)]
pub struct Registry<T> {
    shards: [Mutex<HashMap<u64, T>>; SHARDS],
    next: AtomicU64,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(0),
        }
    }
}

impl<T: Clone> Registry<T> {
    /// A number that nothing has had.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers something under its number.
    pub fn insert(&self, number: u64, it: T) {
        self.shard(number).lock().insert(number, it);
    }

    /// It is over.
    pub fn remove(&self, number: u64) {
        let mut shard = self.shard(number).lock();
        shard.remove(&number);
        // A crowd that has left must not hold its room.
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(32);
        }
    }

    /// Everything, at this moment.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().values().cloned());
        }
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, T>> {
        &self.shards[number as usize % SHARDS]
    }
}
