//! Who is connected, and how far each proxy is. Written by streams, read by the admin server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::ResourceType;
use super::session::{Progress, Session};

/// All streams.
#[derive(Debug)]
pub struct Connections {
    streams: Mutex<Streams>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, Connection>,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The node id the proxy gave; empty before its first request.
    pub node: Arc<str>,
    /// From where it connects.
    pub peer: Option<SocketAddr>,
    /// `namespace/serviceaccount` of its token.
    pub account: Arc<str>,
    authorization: Option<Progress>,
    address: Option<Progress>,
}

impl Connection {
    /// How far a subscribed type is.
    #[must_use]
    pub fn progress(&self, of: ResourceType) -> Option<&Progress> {
        match of {
            ResourceType::Authorization => self.authorization.as_ref(),
            ResourceType::Address => self.address.as_ref(),
        }
    }

    /// Whether the proxy has answered everything up to a generation. A node proxy that has not
    /// subscribed to both types yet is about to.
    #[must_use]
    pub fn settled(&self, generation: u64) -> bool {
        let both = self.node.starts_with("ztunnel~") || self.node.is_empty();
        let mut any = false;
        for of in ResourceType::ALL {
            match self.progress(of) {
                Some(progress) if progress.settled >= generation && progress.answered => {
                    any = true;
                }
                Some(_) => return false,
                None if both => return false,
                None => {}
            }
        }
        any
    }

    /// Refusals that stand.
    pub fn nacks(&self) -> impl Iterator<Item = RenderedNack> + '_ {
        ResourceType::ALL.into_iter().flat_map(|of| {
            let nacks = self.progress(of).map_or(&[][..], |p| &p.nacks);
            nacks.iter().map(move |nack| RenderedNack {
                r#type: of.name(),
                message: nack.message.clone(),
                resources: nack.resources.iter().take(20).cloned().collect(),
            })
        })
    }
}

/// A refusal, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenderedNack {
    /// `address` or `authorization`.
    pub r#type: &'static str,
    /// In the proxy's words.
    pub message: String,
    /// Which resources, at most 20 of them.
    pub resources: Vec<Arc<str>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            streams: Mutex::default(),
            changed: watch::channel(()).0,
        }
    }
}

impl Connections {
    /// A new stream. It is gone when the guard is dropped.
    #[must_use]
    pub fn open(self: &Arc<Self>, peer: Option<SocketAddr>, account: Arc<str>) -> Open {
        let mut streams = self.streams.lock();
        streams.last += 1;
        let id = streams.last;
        let connection = Connection {
            node: "".into(),
            peer,
            account,
            authorization: None,
            address: None,
        };
        streams.open.insert(id, connection);
        drop(streams);
        self.changed.send_replace(());
        Open {
            id,
            all: self.clone(),
        }
    }

    /// All streams, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Connection> {
        self.streams.lock().open.values().cloned().collect()
    }

    /// One stream for each proxy: the newest, since a proxy that came back has given up the other.
    #[must_use]
    pub fn proxies(&self) -> Vec<Connection> {
        let mut newest: BTreeMap<Arc<str>, Connection> = BTreeMap::new();
        let mut unnamed = Vec::new();
        for connection in self.all() {
            if connection.node.is_empty() {
                unnamed.push(connection);
            } else {
                newest.insert(connection.node.clone(), connection);
            }
        }
        unnamed.extend(newest.into_values());
        unnamed
    }

    /// Wakes when anything here changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// An open stream's entry.
#[derive(Debug)]
pub struct Open {
    id: u64,
    all: Arc<Connections>,
}

impl Open {
    /// The proxy gave its name.
    pub fn named(&self, node: &str) {
        if let Some(connection) = self.all.streams.lock().open.get_mut(&self.id) {
            connection.node = node.into();
        }
        self.all.changed.send_replace(());
    }

    /// The stream moved on.
    pub fn moved(&self, session: &Session) {
        if let Some(connection) = self.all.streams.lock().open.get_mut(&self.id) {
            connection.authorization = session.progress(ResourceType::Authorization).cloned();
            connection.address = session.progress(ResourceType::Address).cloned();
        }
        self.all.changed.send_replace(());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.streams.lock().open.remove(&self.id);
        self.all.changed.send_replace(());
    }
}
