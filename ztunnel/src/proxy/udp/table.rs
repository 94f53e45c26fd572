//! The flows of one listener, by who sends and where to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Lost;

/// Datagrams that wait in a flow.
const QUEUE: usize = 64;
/// Octets that wait in all flows of a listener.
const QUEUED: usize = 16 << 20;
/// A flow that was refused or has failed is not begun again for so long.
const MEMORY: Duration = Duration::from_secs(1);
/// How many of those are remembered.
const REMEMBERED: usize = 4096;

/// Who sends, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: SocketAddr,
    pub(super) dialled: SocketAddr,
}

/// The flows of one listener.
#[derive(Default)]
pub(super) struct Table {
    inner: Mutex<Inner>,
    queued: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Inner {
    flows: HashMap<Key, mpsc::Sender<Queued>>,
    refused: HashMap<Key, Instant>,
}

/// The datagrams that come for a flow.
pub(super) struct Incoming(mpsc::Receiver<Queued>);

/// A datagram that waits, and its share of what may.
pub(super) struct Queued {
    payload: Vec<u8>,
    queued: Arc<AtomicUsize>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.payload.len(), Ordering::Relaxed);
    }
}

impl Incoming {
    /// The next one; none once nobody can send any. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let mut queued = self.0.recv().await?;
        let payload = std::mem::take(&mut queued.payload);
        queued.queued.fetch_sub(payload.len(), Ordering::Relaxed);
        Some(payload)
    }
}

impl Table {
    /// Takes a datagram to its flow, which `begin` is asked for if there is none: it says whether there may be one more.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub(super) fn put<P>(
        &self,
        key: Key,
        payload: &[u8],
        begin: impl FnOnce() -> Result<P, Lost>,
    ) -> Result<Option<(Incoming, P)>, Lost> {
        let waiting = self.queued.fetch_add(payload.len(), Ordering::Relaxed) + payload.len();
        let queued = Queued {
            payload: payload.to_vec(),
            queued: self.queued.clone(),
        };
        if waiting > QUEUED {
            return Err(Lost::Queue);
        }
        let mut inner = self.inner.lock();
        if let Some(flow) = inner.flows.get(&key) {
            match flow.try_send(queued) {
                Ok(()) => return Ok(None),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Lost::Queue),
                // It ends, and has yet to say how.
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(Lost::Refused),
            }
        }
        if let Some(until) = inner.refused.get(&key) {
            if Instant::now() < *until {
                return Err(Lost::Refused);
            }
            inner.refused.remove(&key);
        }
        let permit = begin()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        if sender.try_send(queued).is_err() {
            return Err(Lost::Queue);
        }
        inner.flows.insert(key, sender);
        Ok(Some((Incoming(receiver), permit)))
    }

    /// A flow has ended; one that has failed is remembered for a moment, so that not every datagram that follows is judged.
    pub(super) fn ended(&self, key: Key, has_failed: bool) {
        let mut inner = self.inner.lock();
        inner.flows.remove(&key);
        if !has_failed {
            return;
        }
        let now = Instant::now();
        if inner.refused.len() >= REMEMBERED {
            inner.refused.retain(|_, until| now < *until);
        }
        if inner.refused.len() < REMEMBERED {
            inner.refused.insert(key, now + MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        Key {
            client: ([10, 0, 0, 1], port).into(),
            dialled: ([10, 0, 0, 2], 53).into(),
        }
    }

    fn allowed() -> Result<(), Lost> {
        Ok(())
    }

    #[tokio::test]
    async fn a_flow_begins_once_and_takes_what_follows() {
        let table = Table::default();
        let begun = table.put(key(1), b"one", allowed).expect("room");
        let (mut incoming, ()) = begun.expect("a new one");
        let more = table.put(key(1), b"two", || -> Result<(), Lost> {
            panic!("it is there already")
        });
        assert!(more.is_ok_and(|begun| begun.is_none()));
        let other = table.put(key(2), b"other", || Err::<(), _>(Lost::Limit));
        assert_eq!(other.err(), Some(Lost::Limit));
        for payload in [b"one", b"two"] {
            assert_eq!(incoming.next().await.as_deref(), Some(&payload[..]));
        }
        assert_eq!(table.queued.load(Ordering::Relaxed), 0);
        table.ended(key(1), false);
        assert_eq!(incoming.next().await, None);
        let again = table.put(key(1), b"", allowed).expect("room");
        assert!(again.is_some());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_a_flow_and_in_all() {
        let table = Table::default();
        let _first = table.put(key(0), b"x", allowed).expect("room");
        for _ in 1..QUEUE {
            table.put(key(0), b"x", allowed).expect("room");
        }
        assert_eq!(table.put(key(0), b"x", allowed).err(), Some(Lost::Queue));
        let long = vec![0; 1 << 16];
        let mut held = Vec::new();
        let mut port = 0;
        let lost = loop {
            port += 1;
            match table.put(key(port), &long, allowed) {
                Ok(begun) => held.push(begun),
                Err(lost) => break lost,
            }
        };
        assert_eq!((lost, held.len()), (Lost::Queue, (QUEUED >> 16) - 1));
        drop(held);
        assert!(table.put(key(port), &long, allowed).is_ok(), "room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_a_moment_and_not_without_end() {
        let table = Table::default();
        let lost = |port| table.put(key(port), b"x", allowed).err();
        let _begun = table.put(key(0), b"x", allowed).expect("room");
        table.ended(key(0), true);
        assert_eq!(lost(0), Some(Lost::Refused));
        tokio::time::advance(MEMORY).await;
        assert_eq!(lost(0), None);
        for port in 1..=REMEMBERED as u16 + 1 {
            table.ended(key(port), true);
        }
        assert_eq!(lost(REMEMBERED as u16), Some(Lost::Refused));
        assert_eq!(lost(REMEMBERED as u16 + 1), None, "there is no room for it");
        tokio::time::advance(MEMORY).await;
        table.ended(key(9), true);
        assert_eq!(lost(9), Some(Lost::Refused), "the old ones are forgotten");
    }
}
