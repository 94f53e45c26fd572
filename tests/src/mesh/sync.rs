//! Hands every change of the lab's objects to the control plane and asks it to put them in force.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ask;
use super::source::SourceFolder;
use super::statuses::{Page, Statuses};
use crate::api::now;
use crate::cluster::Cluster;

/// How long one request may wait for the proxies, in seconds: the next change does not wait longer.
const SECONDS: u64 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// What the control plane said last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncReport {
    /// The control plane's count of its own changes.
    pub generation: u64,
    /// Objects that it does not understand.
    pub errors: Vec<SyncError>,
    /// The objects of these that cannot be read.
    pub unreadable: Vec<String>,
    /// Objects, or parts of them, that have no effect.
    pub notices: Vec<SyncError>,
    /// The proxies that are connected.
    pub proxies: Vec<ProxyState>,
}

impl SyncReport {
    /// How many node proxies are connected; one that is about to notice that it lost a connection may
    /// have two.
    fn connected(&self) -> usize {
        let node_proxies = self.proxies.iter().map(|it| it.node.as_str());
        let names: BTreeSet<&str> = node_proxies
            .filter(|id| !id.starts_with("waypoint~"))
            .collect();
        names.len()
    }
}

/// An object that the control plane does not understand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncError {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub error: String,
}

/// A connected proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyState {
    /// Which.
    pub node: String,
    /// Whether it has acknowledged everything.
    pub acked: bool,
    /// What it refused.
    pub nacks: Vec<serde_json::Value>,
}

/// The last exchange with the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Everything up to this change of the lab's objects was handed over.
    pub changes: u64,
    /// Whether it is all in force.
    pub in_force: bool,
    /// Whether everyone has answered and somebody said no.
    pub conflict: bool,
    /// What the control plane said.
    pub report: SyncReport,
    /// What it said of objects.
    pub statuses: Arc<Statuses>,
    /// How many node proxies are not connected to it.
    pub missing: usize,
    /// Why there is no report.
    pub trouble: Option<String>,
}

impl Synced {
    /// Why what was applied is not in force, one line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let errors = self
            .report
            .errors
            .iter()
            .map(|it| format!("{}: {}", it.object, it.error));
        let nacks = self.report.proxies.iter().flat_map(|proxy| {
            proxy
                .nacks
                .iter()
                .map(move |nack| format!("{} refused: {nack}", proxy.node))
        });
        let slow = self
            .report
            .proxies
            .iter()
            .filter(|proxy| !proxy.acked && !self.in_force);
        let slow = slow.map(|proxy| format!("{} has not acknowledged yet", proxy.node));
        let missing = (self.missing > 0).then(|| {
            let count = self.missing;
            format!("{count} of the node proxies are not connected to the control plane")
        });
        let trouble = self.trouble.clone().into_iter().chain(missing);
        trouble.chain(errors).chain(nacks).chain(slow).collect()
    }

    /// Whether waiting cannot help: an object or a proxy says no.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.conflict
    }

    /// What is wrong with objects of which `is_mine` is true, and what proxies refuse. An object whose status
    /// tells is in force as far as it says there: a warning, as on a cluster. Of what cannot be read nothing is.
    ///
    /// # Errors
    /// The reasons, when there are any. Otherwise what else is worth knowing comes back.
    pub fn judge(&self, is_mine: impl Fn(&str) -> bool) -> Result<Vec<String>, Vec<String>> {
        let line = |it: &SyncError| format!("{}: {}", it.object, it.error);
        let (mine, others): (Vec<_>, Vec<_>) = self
            .report
            .errors
            .iter()
            .partition(|it| is_mine(&it.object));
        let (told, mine): (Vec<_>, Vec<_>) = mine.into_iter().partition(|it| {
            let readable = !self.report.unreadable.contains(&it.object);
            readable && self.statuses.tells(&it.object)
        });
        let mut errors: Vec<String> = mine.into_iter().map(line).collect();
        errors.extend(self.report.proxies.iter().flat_map(|proxy| {
            proxy
                .nacks
                .iter()
                .map(move |nack| format!("{} refused: {nack}", proxy.node))
        }));
        if !errors.is_empty() {
            return Err(errors);
        }
        let notices = self.report.notices.iter().filter(|it| is_mine(&it.object));
        let mut warnings = self.told(&told);
        warnings.extend(notices.map(line));
        warnings.extend(
            others
                .into_iter()
                .map(|it| format!("still wrong: {}", line(it))),
        );
        Ok(warnings)
    }

    /// What statuses tell of these objects, and of their errors what statuses do not.
    fn told(&self, errors: &[&SyncError]) -> Vec<String> {
        let objects: BTreeSet<&str> = errors.iter().map(|it| it.object.as_str()).collect();
        let mut lines = Vec::new();
        for object in objects {
            let refusals = self.statuses.refusals(object);
            let mine = errors.iter().filter(|it| it.object == object);
            let untold = mine.filter(|it| !refusals.iter().any(|said| said.contains(&it.error)));
            let untold = untold.map(|it| format!("{object}: {}", it.error));
            lines.extend(refusals.iter().map(|said| format!("{object}: {said}")));
            lines.extend(untold);
        }
        lines
    }
}

/// Keeps the folder and the control plane up to date for ever.
pub(super) async fn keep(
    cluster: Arc<Cluster>,
    mut folder: SourceFolder,
    admin: SocketAddr,
    told: watch::Sender<Synced>,
) {
    let mut changes = cluster.changes();
    let mut statuses = Arc::<Statuses>::default();
    loop {
        let (files, now) = cluster.write(|store| (folder.collect(store), store.changes()));
        let mut synced = Synced {
            changes: now,
            ..Synced::default()
        };
        match folder.write(&files) {
            Ok(()) => match exchange(admin, &mut statuses).await {
                Ok((status, report)) => {
                    // Who is not connected has taken nothing.
                    synced.missing = cluster.nodes.len().saturating_sub(report.connected());
                    let all = synced.missing == 0;
                    (synced.in_force, synced.conflict) =
                        (all && status == 200, all && status == 409);
                    synced.report = report;
                }
                Err(error) => synced.trouble = Some(error),
            },
            Err(error) => synced.trouble = Some(format!("cannot write the object folder: {error}")),
        }
        let again = !synced.in_force && !synced.refused();
        if synced.trouble.is_none() {
            cluster.set_exported(now);
        }
        synced.statuses = Arc::clone(&statuses);
        told.send_replace(synced);
        if again {
            // Not in force for want of time or of a control plane: ask again, also unasked.
            let _ = timeout(PAUSE, changes.changed()).await;
            sleep(PAUSE / 4).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Has everything put in force, and asks what is new to say of the objects.
async fn exchange(
    admin: SocketAddr,
    statuses: &mut Arc<Statuses>,
) -> Result<(u16, SyncReport), String> {
    let path = format!("/sync?timeout={SECONDS}");
    let (status, report) = ask_json(admin, Method::POST, &path).await?;
    let (_, page): (_, Page) = ask_json(admin, Method::GET, &statuses.path()).await?;
    Arc::make_mut(statuses).take(page, &now().0.to_string());
    Ok((status, report))
}

async fn ask_json<T: DeserializeOwned>(
    admin: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(u16, T), String> {
    let request = ask::ask(None, admin, method.clone(), path);
    let answer = timeout(Duration::from_secs(SECONDS + 5), request).await;
    let (status, body) = answer.map_err(|_| "the control plane does not answer".to_owned())??;
    let read = serde_json::from_slice(&body).map_err(|error| {
        format!(
            "{method} {path}: status {status}, {error}: {}",
            String::from_utf8_lossy(&body)
        )
    })?;
    Ok((status, read))
}
