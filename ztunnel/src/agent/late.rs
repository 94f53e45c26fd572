//! Pods that are labelled while they run, and pods whose label goes.
//!
//! What the source lists is compared with who is in the mesh whenever either changes. What fails is tried again.
//!
//! Callers go by a pod's mark. It is the last thing that a pod gets which joins, and the first that one loses which leaves.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_net::sys::Netns;
use ambit_telemetry::readiness::Task;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::enrolment::{Enrolment, blocking, served};
use super::failing::{Complaint, Failing};
use super::pod::{Mark, Pod};
use super::reconcile::{Action, Captured, reconcile};
use super::records::Record;
use super::source::Source;
use crate::capture;

/// After something failed.
const AGAIN: Duration = Duration::from_secs(2);

/// What becomes of a pod in the mesh.
#[derive(Debug, Clone, Copy)]
enum Settled {
    /// It does not exist any more.
    Gone,
    /// It leaves: nothing new is captured.
    Yielded,
    /// It leaves: proxies let its connections end.
    Dropped,
    /// It has left.
    Released,
}

/// Whether no other agent has taken over.
pub(super) trait Ours: Fn() -> bool + Clone + Send + 'static {}

impl<T: Fn() -> bool + Clone + Send + 'static> Ours for T {}

impl<S: Source> Enrolment<S> {
    /// Keeps the mesh as the labels say, until another agent has taken over: `ours` is false then. `listing` is done when
    /// the source has listed everything once.
    pub(super) async fn follow(self: &Arc<Self>, listing: Task, ours: impl Ours) {
        let mut listing = Some(listing);
        let mut failing = Failing::default();
        let mut departing = BTreeSet::new();
        let mut departures = JoinSet::new();
        let mut again = None;
        loop {
            let waited = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.source.changed() => {}
                () = self.changed.notified() => {}
                () = waited => {}
                Some(left) = departures.join_next() => {
                    let left: BTreeSet<String> = left.expect("a departure does not panic");
                    departing.retain(|uid| !left.contains(uid));
                }
            }
            if !ours() {
                tracing::info!("a newer agent sees to the pods of this node");
                return;
            }
            let (well, leaving) = self.compare(&departing, &mut failing).await;
            if !leaving.is_empty() {
                let uids: BTreeSet<String> = leaving.iter().map(|pod| pod.uid.clone()).collect();
                departing.extend(uids.clone());
                let (own, ours) = (self.clone(), ours.clone());
                departures.spawn(async move {
                    if !own.part(leaving, ours).await {
                        tokio::time::sleep(AGAIN).await;
                    }
                    uids
                });
            }
            again = (!well).then_some(AGAIN);
            if listing.is_some() && (well || self.source.pods().await.is_ok()) {
                listing = None;
            }
        }
    }

    /// Compares once, and acts, but for pods that are leaving. Whether all is well, and who has to leave.
    pub(super) async fn compare(
        &self,
        departing: &BTreeSet<String>,
        failing: &mut Failing,
    ) -> (bool, Vec<Pod>) {
        // Before the lists: who joins meanwhile is in those, and is not taken for one that is gone.
        let records = self.records.all().into_iter();
        let enrolled = records.map(|it| {
            let Record {
                uid,
                exclusions,
                udp,
                ..
            } = it;
            (uid, Captured { exclusions, udp })
        });
        let enrolled = enrolled.collect();
        let listed = tokio::try_join!(self.source.pods(), self.source.namespaces());
        let (pods, namespaces) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(%error, "pods are not compared");
                return (false, Vec::new());
            }
        };
        let there: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        failing.retain(|uid| there.contains(uid));
        for outside in self.outside.all() {
            if !there.contains(outside.uid.as_str()) {
                let _ = self.outside.remove(&outside.uid);
            }
        }
        let changes = reconcile(&enrolled, departing, &pods, &namespaces);
        let mut well = true;
        for action in changes.actions {
            well &= self.act(action, failing).await;
        }
        self.tell_unread(&pods, failing).await;
        (well, changes.leaving)
    }

    /// Says what is wrong with a pod, if that is news.
    pub(super) async fn complain(
        &self,
        pod: &Pod,
        complaint: Complaint,
        why: &str,
        failing: &mut Failing,
    ) {
        if failing.is_news(&pod.uid, complaint, why, Instant::now()) {
            tracing::warn!(pod = pod.full_name(), why, "{}", complaint.outcome());
            self.source.complain(pod, complaint, why).await;
        }
    }

    async fn act(&self, action: Action, failing: &mut Failing) -> bool {
        match action {
            Action::Enrol(pod) => match self.enrol(&pod).await {
                Ok(()) => {
                    failing.ends(&pod.uid, Complaint::NotCaptured);
                    self.source.mark(&pod, Mark::Enabled).await
                }
                Err(reason) => {
                    self.complain(&pod, Complaint::NotCaptured, &reason, failing)
                        .await;
                    false
                }
            },
            Action::Forget(uid) => self.settled(&uid, Settled::Gone).await,
            Action::Recapture(pod) => self.recapture(&pod).await,
            Action::Mark(pod, mark) => {
                self.is_as_marked(&pod, mark).await && self.source.mark(&pod, mark).await
            }
        }
    }

    /// Pods that run on leave. Who calls them hears of it and uses no tunnels any more; then nothing more is captured; then
    /// the proxy lets what it has end, what was about to open included. Whether they have left; another agent that takes over
    /// begins anew with them.
    pub(super) async fn part(&self, pods: Vec<Pod>, ours: impl Ours) -> bool {
        let marked = join_all(pods.iter().map(|pod| self.source.mark(pod, Mark::Pending))).await;
        let mut well = marked.iter().all(|&marked| marked);
        let told = pods.iter().zip(marked).filter(|(_, marked)| *marked);
        let told: Vec<&Pod> = told.map(|(pod, _)| pod).collect();
        let (parting, draining) = match told.iter().all(|pod| pod.ended) {
            true => (Duration::ZERO, Duration::ZERO),
            false => (self.parting, self.draining),
        };
        for (pause, how) in [
            (parting, Settled::Yielded),
            (parting / 2, Settled::Dropped),
            (draining, Settled::Released),
        ] {
            tokio::time::sleep(pause).await;
            if !ours() {
                return false;
            }
            let settled = join_all(told.iter().map(|pod| self.settled(&pod.uid, how))).await;
            well &= settled.iter().all(|&settled| settled);
        }
        let has_left = |pod: &&&Pod| self.records.by_uid(&pod.uid).is_none();
        let left = told.iter().filter(has_left);
        let marked = join_all(left.map(|pod| self.source.mark(pod, Mark::None))).await;
        well && marked.iter().all(|&marked| marked)
    }

    async fn settled(&self, uid: &str, how: Settled) -> bool {
        let known = || self.records.by_uid(uid);
        let Some(record) = known() else { return true };
        let name = record.full_name();
        let _alone = self.locks.lock(&name).await;
        let Some(record) = known() else { return true };
        let done = match how {
            Settled::Gone => self.leave(&record).await,
            Settled::Yielded => self.yield_traffic(&record).await,
            Settled::Dropped => {
                self.drop_from_proxies(&record).await;
                Ok(())
            }
            Settled::Released => self.release(&record).await,
        };
        if let Err(error) = &done {
            tracing::warn!(pod = name, uid, %error, "a pod cannot leave the mesh");
        }
        done.is_ok()
    }

    /// A pod that runs joins. It listens to the proxy first and is captured then: its traffic is never without a way.
    async fn enrol(&self, pod: &Pod) -> Result<(), String> {
        let _alone = self.locks.lock(&pod.full_name()).await;
        if self.records.by_uid(&pod.uid).is_some() {
            return Ok(());
        }
        let (path, container_id) = self.place(pod).await?;
        let words = |error: io::Error| format!("network namespace {}: {error}", path.display());
        let netns = Netns::open(&path).map_err(words)?;
        if netns == self.node {
            return Err("its network namespace is the node's own".to_owned());
        }
        let record = Record::new(pod.clone(), &container_id, &path, &pod.ips).map_err(words)?;
        let deadline = Instant::now() + self.proxy_timeout;
        let pod = served(&record, &netns).map_err(words)?;
        let given = self.proxies.add(&record.uid, pod, deadline).await;
        given.map_err(|error| error.to_string())?;
        let done = match self.capture(&record, &netns).await {
            Ok(()) => match self.records.insert(record.clone()) {
                Ok(()) => self.probes.mark().await,
                Err(error) => Err(error),
            },
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = done {
            if let Err(error) = self.release(&record).await {
                tracing::warn!(uid = record.uid, %error, "cannot undo a pod's enrolment");
            }
            return Err(error.to_string());
        }
        let _ = self.outside.remove(&record.uid);
        let name = record.full_name();
        tracing::info!(pod = name, uid = record.uid, "running pod joined the mesh");
        Ok(())
    }

    /// Where the pod's namespace is, and its sandbox if that is known.
    async fn place(&self, pod: &Pod) -> Result<(PathBuf, String), String> {
        if let Some(known) = self.outside.by_uid(&pod.uid)
            && known.open().is_ok()
        {
            return Ok((known.netns, known.container_id));
        }
        let (processes, uid) = (self.processes.clone(), pod.uid.clone());
        let found = blocking(move || processes.netns_of(&uid)).await;
        match found.map_err(|error| format!("its processes cannot be looked for: {error}"))? {
            Some(path) => Ok((path, String::new())),
            None => Err("none of its processes is found on this node".to_owned()),
        }
    }

    /// New connections of a pod that runs on go their own way.
    async fn yield_traffic(&self, record: &Record) -> io::Result<()> {
        let Ok(netns) = record.open() else {
            return Ok(());
        };
        let yielded = blocking(move || capture::yield_traffic(&netns)).await;
        yielded.map_err(io::Error::other)
    }

    /// A pod that runs on leaves: its traffic goes its own way, and the proxy has let go of it.
    pub(super) async fn release(&self, record: &Record) -> io::Result<()> {
        if let Ok(netns) = record.open() {
            let removed = blocking(move || capture::remove(&netns)).await;
            removed.map_err(io::Error::other)?;
            self.outside.insert(record.clone())?;
        }
        self.leave(record).await
    }

    /// Every pod of the node leaves, and the node is as it was.
    ///
    /// # Errors
    /// The last thing that could not be undone; the rest was.
    pub(super) async fn leave_node(&self) -> io::Result<()> {
        let mut done = Ok(());
        // Without an API server each pod would take as long as an answer may.
        let mut heard = true;
        for record in self.records.all() {
            if let Err(error) = self.release(&record).await {
                done = Err(error);
            }
            let pod = Pod {
                uid: record.uid,
                namespace: record.namespace,
                name: record.name,
                ..Pod::default()
            };
            if heard {
                heard = self.source.mark(&pod, Mark::None).await;
            }
        }
        self.probes.leave().await?;
        self.records.clear()?;
        done
    }
}
