//! Connections to backends between requests, of one worker. Requests share one only if they come from the
//! same caller: the destination judges a connection by who stands behind it, and from where.

mod key;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::h1::Failure;
use super::h2::Client;
use key::Key;
use shelf::Shelf;

pub(super) use key::Sought;
pub(super) use shelf::Place;

/// A connection nobody needs for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How often that is looked for, and for endpoints that are gone.
const SWEEP: Duration = Duration::from_secs(5);
/// Connections of HTTP/2 to one backend for one caller.
const MOST_CLIENTS: usize = 8;

/// All of one worker.
#[derive(Default)]
pub(super) struct Connections {
    h1: Mutex<HashMap<Key, Arc<Shelf>>>,
    h2: Mutex<HashMap<Key, Clients>>,
    /// On all shelves.
    kept: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Clients {
    open: Vec<(Instant, Client)>,
    opening: Option<Opening>,
}

type Opening = Shared<BoxFuture<'static, Result<Client, Arc<Failure>>>>;

impl Connections {
    /// Where connections of HTTP/1.1 for this are kept.
    pub(super) fn place(&self, sought: &Sought<'_>) -> Place {
        let mut shelves = self.h1.lock();
        if let Some(shelf) = shelves.get(sought) {
            return Place::on(shelf.clone());
        }
        let shelf = Shelf::new(self.kept.clone());
        shelves.insert(sought.key(), shelf.clone());
        Place::on(shelf)
    }

    /// A connection of HTTP/2 with room, opened with `open` when there is none. Whether it was there already.
    pub(super) async fn client(
        &self,
        sought: &Sought<'_>,
        open: impl FnOnce() -> BoxFuture<'static, Result<Client, Failure>>,
    ) -> Result<(Client, bool), Arc<Failure>> {
        let opening = {
            let mut all = self.h2.lock();
            let clients = match all.get_mut(sought) {
                Some(clients) => clients,
                None => all.entry(sought.key()).or_default(),
            };
            clients.open.retain(|(_, client)| !client.is_gone());
            let free = clients.open.iter_mut().find(|(_, it)| it.has_room());
            if let Some((since, client)) = free {
                *since = Instant::now();
                return Ok((client.clone(), true));
            }
            if clients.open.len() >= MOST_CLIENTS {
                // The least busy one; the request waits there.
                let least = clients.open.iter().min_by_key(|(_, it)| it.busy());
                if let Some((_, client)) = least {
                    return Ok((client.clone(), true));
                }
            }
            let opening = || {
                open()
                    .map(|opened| opened.map_err(Arc::new))
                    .boxed()
                    .shared()
            };
            clients.opening.get_or_insert_with(opening).clone()
        };
        let opened = opening.clone().await;
        let mut all = self.h2.lock();
        if let Some(clients) = all.get_mut(sought)
            && clients
                .opening
                .as_ref()
                .is_some_and(|it| it.ptr_eq(&opening))
        {
            clients.opening = None;
            if let Ok(client) = &opened {
                clients.open.push((Instant::now(), client.clone()));
            }
        }
        opened.map(|client| (client, false))
    }

    /// A kept connection did not take a request: those that take no more are not asked again.
    pub(super) fn forget(&self, sought: &Sought<'_>, failure: &Failure) {
        tracing::debug!(
            reason = failure.reason,
            "a kept connection takes no more requests"
        );
        if let Some(clients) = self.h2.lock().get_mut(sought) {
            clients.open.clear();
        }
    }

    /// Closes what nobody needed for a while or whose workload is not `there` any more.
    fn sweep(&self, there: impl Fn(&str) -> bool) {
        let now = Instant::now();
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < IDLE;
        self.h1.lock().retain(|key, shelf| {
            let there = there(&key.workload);
            let any = shelf.retain(|since| there && fresh(since));
            // What is in use comes back to a shelf that is here, to be looked at again.
            any || Arc::strong_count(shelf) > 1
        });
        self.h2.lock().retain(|key, clients| {
            let there = there(&key.workload);
            clients.open.retain(|(since, client)| {
                !client.is_gone() && there && (client.busy() > 0 || fresh(since))
            });
            !clients.open.is_empty() || clients.opening.is_some()
        });
    }

    /// Sweeps as long as anybody uses these connections.
    pub(super) async fn sweeping(connections: Weak<Self>, there: impl Fn(&str) -> bool) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(connections) = connections.upgrade() else {
                return;
            };
            connections.sweep(&there);
        }
    }
}
