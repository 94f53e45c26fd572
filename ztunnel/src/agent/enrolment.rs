//! Pods join the mesh and leave it.

use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::cni::agent::{Answer, PodName, Refusal, Request};
use ambit_core::exclusions::Exclusions;
use ambit_net::sys::Netns;
use ambit_net::zds;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::Config;
use super::locks::Locks;
use super::pod::{Decision, Mark, Pod, decide};
use super::probes::Probes;
use super::processes::Processes;
use super::records::{Record, Records};
use super::source::Source;
use crate::capture::{self, Options};

/// Between questions to a source that does not know a starting pod yet.
const PAUSE: Duration = Duration::from_millis(100);

/// What the agent does for each pod.
#[derive(Debug)]
pub struct Enrolment<S> {
    pub(super) source: S,
    pub(super) proxies: zds::Server,
    pub(super) records: Arc<Records>,
    /// Pods that started and stayed out of the mesh: where they are, should they be labelled later.
    pub(super) outside: Records,
    pub(super) locks: Locks,
    /// The node's namespace: a pod that shares it is never captured.
    pub(super) node: Netns,
    pub(super) processes: Processes,
    pub(super) probes: Probes,
    dns_capture: bool,
    source_timeout: Duration,
    pub(super) proxy_timeout: Duration,
    /// For callers of a pod that leaves to hear of it.
    pub(super) parting: Duration,
    /// For its connections to end.
    pub(super) draining: Duration,
    /// Who is in the mesh has changed.
    pub(super) changed: Notify,
}

impl<S: Source> Enrolment<S> {
    /// Reads what an earlier agent remembered.
    ///
    /// # Errors
    /// When the folder of records cannot be used.
    pub fn open(config: &Config, source: S, proxies: zds::Server) -> io::Result<Self> {
        let folder = config.records();
        let in_folder = |error| io::Error::other(format!("{}: {error}", folder.display()));
        let proc = config.host_proc.as_deref();
        let processes = Processes::at(proc.unwrap_or(Path::new("/proc")));
        let node = match proc {
            Some(_) => processes.node()?,
            None => Netns::current()?,
        };
        let records = Arc::new(Records::open(&folder).map_err(in_folder)?);
        Ok(Self {
            source,
            proxies,
            probes: Probes::new(node.clone(), records.clone()),
            records,
            outside: Records::open(&folder.join("outside")).map_err(in_folder)?,
            locks: Locks::default(),
            node,
            processes,
            changed: Notify::new(),
            dns_capture: config.dns_capture,
            source_timeout: config.source_timeout,
            proxy_timeout: config.proxy_timeout,
            parting: config.parting,
            draining: config.draining,
        })
    }

    /// Takes over the pods of an earlier agent: those whose namespace is still there. Their redirection is brought up to
    /// date, and proxies that connect are told of them.
    ///
    /// # Errors
    /// When the records or the node's own rules cannot be changed.
    pub async fn recover(self: &Arc<Self>) -> io::Result<()> {
        for record in self.records.all() {
            let pod = record.full_name();
            let netns = match record.open() {
                Ok(netns) => netns,
                Err(error) => {
                    tracing::info!(pod, %error, "an earlier agent's pod is gone");
                    self.records.remove(&record.uid)?;
                    continue;
                }
            };
            if let Err(error) = self.capture(&record, &netns).await {
                tracing::error!(pod, %error, "a pod's redirection cannot be brought up to date");
            }
            self.proxies.restore(&record.uid, served(&record, &netns)?);
            tracing::info!(pod, "pod taken over from an earlier agent");
        }
        self.probes.mark().await
    }

    /// A pod starts. When this returns well it is protected, or not part of the mesh.
    pub(super) async fn add(&self, request: &Request) -> Result<Answer, Refusal> {
        let _alone = self.locks.lock(&request.pod.to_string()).await;
        let (pod, decision) = self.find(&request.pod).await?;
        if let Decision::Leave(reason) = decision {
            tracing::debug!(pod = %request.pod, reason, "pod stays out of the mesh");
            self.stays_out(pod, request);
            return Ok(Answer::left(reason));
        }
        let netns = request
            .netns
            .as_deref()
            .map(|netns| self.processes.seen(netns))
            .ok_or_else(|| Refusal::of(&request.pod, "the runtime gave no network namespace"))?;
        self.join(pod, &netns, request).await?;
        Ok(Answer::enrolled())
    }

    /// A pod ends. One that is not known has left already.
    pub(super) async fn del(&self, request: &Request) -> Result<Answer, Refusal> {
        let _alone = self.locks.lock(&request.pod.to_string()).await;
        let Some(record) = self.records.by_container(&request.container_id) else {
            if let Some(outside) = self.outside.by_container(&request.container_id) {
                // What remains of it is forgotten with the pod.
                let _ = self.outside.remove(&outside.uid);
            }
            return Ok(Answer::left("it is not known here"));
        };
        self.leave(&record)
            .await
            .map_err(|error| Refusal::of(&request.pod, error))?;
        Ok(Answer::left("it ended"))
    }

    /// Whether a pod that joined is still as it should be.
    pub(super) async fn check(&self, request: &Request) -> Result<Answer, Refusal> {
        let _alone = self.locks.lock(&request.pod.to_string()).await;
        let refuse = |error: &dyn Display| Refusal::of(&request.pod, error);
        let Some(record) = self.records.by_container(&request.container_id) else {
            return match self.find(&request.pod).await? {
                (_, Decision::Leave(reason)) => Ok(Answer::left(reason)),
                (_, Decision::Enrol) => Err(refuse(&"it should be in the mesh and is not")),
            };
        };
        if !self.proxies.pods().contains_key(&record.uid) {
            return Err(refuse(&"node proxies are not told of it"));
        }
        let netns = record.open().map_err(|error| refuse(&error))?;
        let options = self.options(&record);
        let missing = blocking(move || capture::verify(&netns, &options))
            .await
            .map_err(|error| refuse(&error))?;
        if missing.is_empty() {
            Ok(Answer::enrolled())
        } else {
            Err(refuse(&missing.join("; ")))
        }
    }

    /// How many pods are in the mesh, and how many proxies are connected.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.records.all().len(), *self.proxies.connected().borrow())
    }

    /// The pod as the source lists it, which may take a moment after its start.
    async fn find(&self, name: &PodName) -> Result<(Pod, Decision), Refusal> {
        let deadline = Instant::now() + self.source_timeout;
        loop {
            let reason = match self.look(name).await {
                Ok(found) => return Ok(found),
                Err(reason) => reason,
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(Refusal::of(name, reason));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look(&self, name: &PodName) -> Result<(Pod, Decision), String> {
        let pods = self
            .source
            .pods()
            .await
            .map_err(|error| error.to_string())?;
        let same = |pod: &&Pod| {
            pod.namespace == name.namespace
                && pod.name == name.name
                && (name.uid.is_empty() || pod.uid == name.uid)
        };
        let pod = pods.iter().find(same).ok_or_else(|| {
            let listed = pods.len();
            format!("it is not listed on this node ({listed} others)")
        })?;
        let namespaces = self
            .source
            .namespaces()
            .await
            .map_err(|error| error.to_string())?;
        let labels = namespaces
            .get(&pod.namespace)
            .ok_or_else(|| format!("its namespace {} is not listed", pod.namespace))?;
        Ok((pod.clone(), decide(pod, labels)))
    }

    /// Should it be labelled while it runs, its namespace is known. If it is not, its processes lead there.
    fn stays_out(&self, pod: Pod, request: &Request) {
        let Some(netns) = &request.netns else { return };
        let netns = self.processes.seen(netns);
        let record = Record::new(pod, &request.container_id, &netns, &request.ips);
        if let Err(error) = record.and_then(|record| self.outside.insert(record)) {
            tracing::debug!(pod = %request.pod, %error, "a pod outside the mesh is not remembered");
        }
    }

    async fn join(&self, pod: Pod, path: &Path, request: &Request) -> Result<(), Refusal> {
        let name = &request.pod;
        let in_netns = |error: io::Error| {
            Refusal::of(
                name,
                format!("network namespace {}: {error}", path.display()),
            )
        };
        let netns = Netns::open(path).map_err(in_netns)?;
        if netns == self.node {
            return Err(Refusal::of(name, "its network namespace is the node's own"));
        }
        let record = Record::new(pod.clone(), &request.container_id, path, &request.ips)
            .map_err(in_netns)?;
        let refuse = |error: &dyn Display| Refusal::of(name, error);
        // Captured first: from here on nothing passes unprotected, whatever fails.
        let captured = self.capture(&record, &netns).await;
        captured.map_err(|error| refuse(&error))?;
        let deadline = Instant::now() + self.proxy_timeout;
        let known = served(&record, &netns).map_err(|error| refuse(&error))?;
        let given = self.proxies.add(&record.uid, known, deadline).await;
        given.map_err(|error| match error {
            zds::Error::NoProxy { .. } => Refusal::later(name, error),
            error => refuse(&error),
        })?;
        let kept = match self.records.insert(record.clone()) {
            Ok(()) => self.probes.mark().await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            // A pod that the next agent would not know must not run.
            if let Err(error) = self.leave(&record).await {
                tracing::warn!(pod = %name, %error, "cannot undo a pod's enrolment");
            }
            return Err(refuse(&error));
        }
        let left_alone = (record.exclusions != Exclusions::default())
            .then(|| tracing::field::debug(&record.exclusions));
        tracing::info!(pod = %name, uid = record.uid, left_alone, udp = record.udp, "pod joined the mesh");
        // Before anybody hears of its addresses. If it cannot be said now, the pod is protected all the same, and it is
        // said later.
        if !self.source.mark(&pod, Mark::Enabled).await {
            self.changed.notify_one();
        }
        Ok(())
    }

    pub(super) async fn leave(&self, record: &Record) -> io::Result<()> {
        self.drop_from_proxies(record).await;
        self.records.remove(&record.uid)?;
        tracing::info!(
            pod = record.full_name(),
            uid = record.uid,
            "pod left the mesh"
        );
        self.probes.mark().await
    }

    /// Proxies let go of a pod, unless they have.
    pub(super) async fn drop_from_proxies(&self, record: &Record) {
        if self.proxies.pods().contains_key(&record.uid) {
            let deadline = Instant::now() + self.proxy_timeout;
            self.proxies.delete(&record.uid, deadline).await;
        }
    }

    pub(super) async fn capture(
        &self,
        record: &Record,
        netns: &Netns,
    ) -> Result<(), capture::Error> {
        let (netns, options) = (netns.clone(), self.options(record));
        blocking(move || capture::apply(&netns, &options)).await
    }

    fn options(&self, record: &Record) -> Options {
        Options {
            machine: false,
            dns: record.dns_capture.unwrap_or(self.dns_capture),
            udp: record.udp,
            exclusions: record.exclusions.clone(),
        }
    }
}

pub(super) fn served(record: &Record, netns: &Netns) -> io::Result<zds::Pod> {
    Ok(zds::Pod {
        info: zds::WorkloadInfo {
            name: record.name.clone(),
            namespace: record.namespace.clone(),
            service_account: record.service_account.clone(),
        },
        netns: Arc::new(netns.as_fd().try_clone_to_owned()?),
    })
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work in the kernel does not panic and is not cancelled")
}
