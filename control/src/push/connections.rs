//! Who is connected, and how far each proxy is. Written by streams, read by the admin server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::session::{Progress, Session};
use super::{ByType, ResourceType};

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
    progress: ByType<Option<Progress>>,
}

impl Connection {
    /// How far a subscribed type is.
    #[must_use]
    pub fn progress(&self, of: ResourceType) -> Option<&Progress> {
        self.progress[of].as_ref()
    }

    /// Whether the proxy has answered everything up to a generation. One of ours that has not
    /// subscribed to all it needs yet is about to.
    #[must_use]
    pub fn settled(&self, generation: u64) -> bool {
        let kind = self.node.split('~').next().unwrap_or_default();
        let needs = |of: ResourceType| match (kind, of) {
            (_, ResourceType::Address) => matches!(kind, "ztunnel" | "waypoint" | ""),
            (_, ResourceType::Authorization) => matches!(kind, "ztunnel" | ""),
            (_, ResourceType::Waypoint) => kind == "waypoint",
        };
        let mut any = false;
        for of in ResourceType::ALL {
            match self.progress(of) {
                Some(progress) if progress.settled >= generation && progress.answered => {
                    any = true;
                }
                Some(_) => return false,
                None if needs(of) => return false,
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
    /// `address`, `authorization` or `waypoint`.
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
            progress: ByType::default(),
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
            for of in ResourceType::ALL {
                connection.progress[of] = session.progress(of).cloned();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use ResourceType::{Address, Authorization, Waypoint};

    #[test]
    fn a_proxy_has_settled_when_all_it_needs_has() {
        let cases: [(&str, &[ResourceType], bool); 9] = [
            ("ztunnel~10.0.0.1~a.b~c", &[Address, Authorization], true),
            ("ztunnel~10.0.0.1~a.b~c", &[Address], false),
            ("ztunnel~10.0.0.1~a.b~c", &[Authorization], false),
            ("waypoint~10.0.0.1~a.b~c", &[Address, Waypoint], true),
            ("waypoint~10.0.0.1~a.b~c", &[Address], false),
            ("waypoint~10.0.0.1~a.b~c", &[Waypoint], false),
            ("", &[Address], false),
            ("observer", &[Address], true),
            ("observer", &[], false),
        ];
        for (node, types, expected) in cases {
            let mut connection = Connection {
                node: node.into(),
                peer: None,
                account: "".into(),
                progress: ByType::default(),
            };
            for of in types {
                connection.progress[*of] = Some(Progress {
                    answered: true,
                    settled: 7,
                    ..Progress::default()
                });
            }
            assert_eq!(connection.settled(7), expected, "{node} {types:?}");
            assert!(!connection.settled(8), "{node} {types:?}");
        }
    }
}
