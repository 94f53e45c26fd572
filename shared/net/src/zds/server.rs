//! The agent's end: the pods of this node, and the proxies that serve them.
//!
//! While a proxy is replaced, two are connected. The newest is the one that new pods are given to; the older keeps what it
//! has until it leaves, and hears of deletions.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync;
use tokio::time::Instant;

use super::connection::{Connection, add};
use super::{Error, Request, WorkloadInfo};
use crate::sys::watch;

/// Proxies that may wait to be accepted.
const BACKLOG: i32 = 16;
/// Pause after a failed accept, for descriptors to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A pod in the mesh.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Who it is.
    pub info: WorkloadInfo,
    /// Its network namespace.
    pub netns: Arc<OwnedFd>,
}

/// The agent's ZDS socket. Clones share it; it is served while [`Server::run`] runs.
#[derive(Debug, Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    socket: AsyncFd<Socket>,
    /// Device and inode of the socket's file: a newer agent may have put its own in that place.
    file: (u64, u64),
    /// How long a proxy may take to answer.
    patience: Duration,
    state: Mutex<State>,
    /// How many proxies are connected; every change wakes those who wait for one.
    connected: sync::watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    /// In the order they connected.
    connections: Vec<Connection>,
    opened: u64,
}

impl Server {
    /// Listens at `path`, in the place of a socket that an earlier agent left there. Proxies get `patience` for every
    /// answer.
    ///
    /// # Errors
    /// When the path cannot be bound.
    pub fn bind(path: &Path, patience: Duration) -> Result<Self, Error> {
        let (socket, file) = listen(path)
            .map_err(|error| Error::socket("listen for node proxies at", path, error))?;
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                socket,
                file,
                patience,
                state: Mutex::default(),
                connected: sync::watch::Sender::new(0),
            }),
        })
    }

    /// Accepts proxies, for ever.
    pub async fn run(&self) {
        loop {
            let accepted = self
                .shared
                .socket
                .async_io(Interest::READABLE, |socket| Ok(socket.accept()?.0))
                .await;
            match accepted {
                Ok(socket) => {
                    let server = self.clone();
                    tokio::spawn(async move { server.serve(socket).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a node proxy");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a pod to the newest proxy and waits until it serves it. Nothing is remembered of a pod that it does not.
    ///
    /// # Errors
    /// When no proxy connects before `deadline`, or it refuses the pod or does not answer.
    pub async fn add(&self, uid: &str, pod: Pod, deadline: Instant) -> Result<(), Error> {
        let began = Instant::now();
        let before = self.shared.state.lock().pods.get(uid).cloned();
        let done = self.give(uid, pod, began, deadline).await;
        if done.is_err() {
            self.retract(uid, before);
        }
        done
    }

    /// Remembers a pod that an earlier agent gave to the proxy: it is part of snapshots to come.
    pub fn restore(&self, uid: &str, pod: Pod) {
        self.shared.state.lock().pods.insert(uid.to_owned(), pod);
    }

    /// Forgets a pod and tells every proxy. It is gone for them too if they do not answer: their connection ends, and a
    /// new one starts without it.
    pub async fn delete(&self, uid: &str, deadline: Instant) {
        let connections = {
            let mut state = self.shared.state.lock();
            state.pods.remove(uid);
            state.connections.clone()
        };
        for connection in connections.iter().rev() {
            let question = Request::Del {
                uid: uid.to_owned(),
            };
            if let Some(Err(reason)) = connection.ask(question, deadline).await {
                tracing::warn!(uid, reason, "the node proxy refused to drop a pod");
            }
        }
    }

    /// The pods that proxies are told of.
    #[must_use]
    pub fn pods(&self) -> BTreeMap<String, Pod> {
        self.shared.state.lock().pods.clone()
    }

    /// How many proxies are connected; the receiver sees changes.
    #[must_use]
    pub fn connected(&self) -> sync::watch::Receiver<usize> {
        self.shared.connected.subscribe()
    }

    async fn give(
        &self,
        uid: &str,
        pod: Pod,
        began: Instant,
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            let newest = self.newest(uid, &pod, began, deadline).await?;
            match newest.ask(add(uid, pod.clone()), deadline).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(reason)) => {
                    let uid = uid.to_owned();
                    return Err(Error::Refused { uid, reason });
                }
                None if Instant::now() >= deadline => {
                    return Err(Error::Unanswered {
                        uid: uid.to_owned(),
                        waited: began.elapsed(),
                    });
                }
                // This proxy went away: the next newest, or the next to come.
                None => self.forget(newest.number()),
            }
        }
    }

    /// The newest proxy, which has not heard of the pod; any that connects later finds the pod in its snapshot.
    async fn newest(
        &self,
        uid: &str,
        pod: &Pod,
        began: Instant,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let mut connected = self.connected();
        loop {
            connected.borrow_and_update();
            {
                let mut state = self.shared.state.lock();
                if let Some(newest) = state.connections.last().cloned() {
                    state.pods.insert(uid.to_owned(), pod.clone());
                    return Ok(newest);
                }
            }
            let change = tokio::time::timeout_at(deadline, connected.changed()).await;
            if change.is_err() {
                return Err(Error::NoProxy {
                    path: self.shared.path.clone(),
                    waited: began.elapsed(),
                });
            }
        }
    }

    /// Undoes an addition that failed, on the side: whoever asked for it is not kept waiting.
    fn retract(&self, uid: &str, before: Option<Pod>) {
        match before {
            Some(before) => self.restore(uid, before),
            None => {
                let (server, uid) = (self.clone(), uid.to_owned());
                let deadline = Instant::now() + self.shared.patience;
                tokio::spawn(async move { server.delete(&uid, deadline).await });
            }
        }
    }

    async fn serve(&self, socket: Socket) {
        let hello = Connection::greet(socket, self.shared.patience).await;
        let packets = match hello {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!(%error, "something connected that is no node proxy");
                return;
            }
        };
        let (number, snapshot, questions) = {
            let mut state = self.shared.state.lock();
            state.opened += 1;
            let number = state.opened;
            let (connection, questions) = Connection::new(number);
            state.connections.push(connection);
            (number, state.pods.clone(), questions)
        };
        self.count();
        tracing::info!(
            proxy = number,
            pods = snapshot.len(),
            "node proxy connected"
        );
        let patience = self.shared.patience;
        match Connection::run(packets, snapshot, questions, patience).await {
            Ok(()) => tracing::info!(proxy = number, "node proxy disconnected"),
            Err(error) => tracing::warn!(proxy = number, %error, "node proxy lost"),
        }
        self.forget(number);
    }

    fn forget(&self, number: u64) {
        let mut state = self.shared.state.lock();
        state.connections.retain(|c| c.number() != number);
        drop(state);
        self.count();
    }

    fn count(&self) {
        let count = self.shared.state.lock().connections.len();
        self.shared.connected.send_replace(count);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if file(&self.path).is_ok_and(|file| file == self.file) {
            // Left behind it does no harm: the next agent replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Only the agent's own user may connect: whoever does is given every pod's namespace.
fn listen(path: &Path) -> io::Result<(AsyncFd<Socket>, (u64, u64))> {
    if std::fs::symlink_metadata(path).is_ok_and(|old| old.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok((watch(socket)?, file(path)?))
}

fn file(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
