//! Connections to backends between requests, of one worker. Requests share one only if they come from the
//! same caller: the destination judges a connection by who stands behind it, and from where.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ambit_core::identity::Identity;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::h1::{Connection, Failure};
use super::h2::Client;

/// A connection nobody needs for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How often that is looked for, and for endpoints that are gone.
const SWEEP: Duration = Duration::from_secs(5);
/// Idle connections of HTTP/1.1 to one backend for one caller, and in all.
const MOST: usize = 256;
const MOST_IN_ALL: usize = 4096;
/// Connections of HTTP/2 to one backend for one caller.
const MOST_CLIENTS: usize = 8;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The workload's uid: another pod at the same address is somebody else.
    pub(super) workload: Arc<str>,
    pub(super) address: SocketAddr,
    /// `None`: the waypoint itself.
    pub(super) caller: Option<(Identity, IpAddr)>,
    /// The number of the TLS client it was opened with: what was checked by another policy is not good enough.
    pub(super) tls: Option<u64>,
}

/// All of one worker.
#[derive(Default)]
pub(super) struct Connections {
    h1: Mutex<Idle>,
    h2: Mutex<HashMap<Key, Clients>>,
}

#[derive(Default)]
struct Idle {
    /// The one that was used last at the end.
    kept: HashMap<Key, VecDeque<(Instant, Connection)>>,
    count: usize,
}

#[derive(Default)]
struct Clients {
    open: Vec<(Instant, Client)>,
    opening: Option<Opening>,
}

type Opening = Shared<BoxFuture<'static, Result<Client, Arc<Failure>>>>;

/// Where a connection of HTTP/1.1 goes when its response has been read.
#[derive(Clone)]
pub(super) struct Place {
    connections: Weak<Connections>,
    key: Option<Arc<Key>>,
}

impl Place {
    /// It is not kept.
    pub(super) fn none() -> Self {
        Self {
            connections: Weak::new(),
            key: None,
        }
    }

    pub(super) fn keep(self, connection: Connection) {
        if let (Some(connections), Some(key)) = (self.connections.upgrade(), &self.key) {
            connections.put(key, connection);
        }
    }
}

impl Connections {
    pub(super) fn place(self: &Arc<Self>, key: Arc<Key>) -> Place {
        Place {
            connections: Arc::downgrade(self),
            key: Some(key),
        }
    }

    /// The connection that was used last and has not ended.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        loop {
            let (since, mut connection) = {
                let mut idle = self.h1.lock();
                let taken = idle.kept.get_mut(key)?.pop_back()?;
                idle.count -= 1;
                taken
            };
            if since.elapsed() < IDLE && connection.is_fresh() {
                return Some(connection);
            }
        }
    }

    fn put(&self, key: &Key, connection: Connection) {
        let mut idle = self.h1.lock();
        if idle.count >= MOST_IN_ALL {
            return;
        }
        let kept = match idle.kept.get_mut(key) {
            Some(kept) => kept,
            None => idle.kept.entry(key.clone()).or_default(),
        };
        if kept.len() < MOST {
            kept.push_back((Instant::now(), connection));
            idle.count += 1;
        }
    }

    /// A connection of HTTP/2 with room, opened with `open` when there is none. Whether it was there already.
    pub(super) async fn client(
        &self,
        key: &Key,
        open: impl FnOnce() -> BoxFuture<'static, Result<Client, Failure>>,
    ) -> Result<(Client, bool), Arc<Failure>> {
        let opening = {
            let mut all = self.h2.lock();
            let clients = match all.get_mut(key) {
                Some(clients) => clients,
                None => all.entry(key.clone()).or_default(),
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
        if let Some(clients) = all.get_mut(key)
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
    pub(super) fn forget(&self, key: &Key, failure: &Failure) {
        tracing::debug!(
            reason = failure.reason,
            "a kept connection takes no more requests"
        );
        if let Some(clients) = self.h2.lock().get_mut(key) {
            clients.open.clear();
        }
    }

    /// Closes what nobody needed for a while or whose workload is not `there` any more.
    fn sweep(&self, there: impl Fn(&str) -> bool) {
        let now = Instant::now();
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < IDLE;
        let mut idle = self.h1.lock();
        idle.kept.retain(|key, kept| {
            match there(&key.workload) {
                true => kept.retain(|(since, _)| fresh(since)),
                false => kept.clear(),
            }
            !kept.is_empty()
        });
        idle.count = idle.kept.values().map(VecDeque::len).sum();
        drop(idle);
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
