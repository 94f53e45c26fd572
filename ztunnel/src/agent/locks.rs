//! One thing at a time for each pod; different pods do not wait for one another.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Locks {
    held: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    /// Waits until nobody else is at `key`. It is free again when the guard is dropped.
    pub(super) async fn lock(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock();
            // Those that only this map holds are of nobody.
            held.retain(|_, lock| Arc::strong_count(lock) > 1);
            held.entry(key.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// How many hold `key` or wait for it.
    #[cfg(test)]
    pub(super) fn at(&self, key: &str) -> usize {
        let held = self.held.lock();
        held.get(key).map_or(0, |lock| Arc::strong_count(lock) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_held_by_one_and_forgotten_after() {
        let locks = Locks::default();
        let first = locks.lock("a").await;
        drop(locks.lock("b").await);
        let second = locks.lock("a");
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("held twice"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        drop(second.await);
        drop(locks.lock("c").await);
        assert_eq!(locks.held.lock().len(), 1);
    }
}
