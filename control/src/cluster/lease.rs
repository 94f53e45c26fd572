//! Drives an [`Election`] with a Lease of the API server.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::collection::path;
use super::election::{DURATION, Do, Election, Record, Seen, Wrote};
use super::{Cluster, Failure};

/// The Lease's name, in the namespace of the installation.
pub const NAME: &str = "ambit-control";
/// A request that takes longer would come too late.
const PATIENCE: Duration = Duration::from_secs(4);

/// Until when this replica holds the Lease; `None` while it does not.
pub type Held = watch::Receiver<Option<Instant>>;

/// Whether the Lease is held now.
pub(super) fn holds(held: &Held) -> bool {
    held.borrow().is_some_and(|until| Instant::now() < until)
}

/// Takes part in the election until `stopping`, then gives the Lease back.
pub async fn run(
    cluster: Cluster,
    namespace: String,
    identity: String,
    held: watch::Sender<Option<Instant>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut driver = Driver {
        collection: path("coordination.k8s.io", "v1", Some(&namespace), "leases"),
        election: Election::new(identity),
        cluster,
        namespace,
        held,
        acquired: None,
    };
    tokio::select! {
        () = driver.run() => {}
        () = stopped(&mut stopping) => {}
    }
    driver.give_back().await;
}

struct Driver {
    cluster: Cluster,
    namespace: String,
    collection: String,
    election: Election,
    held: watch::Sender<Option<Instant>>,
    acquired: Option<Timestamp>,
}

impl Driver {
    async fn run(&mut self) {
        loop {
            let until = self.election.until(Instant::now());
            self.tell(until);
            let step = self.election.next(Instant::now());
            if let Do::Wait(when) = step {
                // Who stops being the holder says so at once.
                let wake = until.map_or(when, |until| until.min(when));
                tokio::time::sleep_until(wake.into()).await;
                continue;
            }
            let began = Instant::now();
            let held = self.held.clone();
            tokio::select! {
                () = self.take(step, began) => {}
                () = end(until) => {
                    // The request is given up; what came of it is read.
                    held.send_if_modified(|held| held.take().is_some());
                    self.election.unread(Instant::now());
                }
            }
        }
    }

    async fn take(&mut self, step: Do, began: Instant) {
        match step {
            Do::Wait(_) => {}
            Do::Read => {
                let path = format!("{}/{NAME}", self.collection);
                let read = bounded(self.cluster.read::<Lease>(&path)).await;
                let now = Instant::now();
                match read {
                    Ok(lease) => self.election.read(Some(seen(lease)), now),
                    Err(failure) if failure.status() == Some(404) => self.election.read(None, now),
                    Err(failure) => {
                        tracing::debug!(%failure, "the Lease was not read");
                        self.election.unread(now);
                    }
                }
            }
            Do::Create(record) => {
                let lease = self.lease(&record, None);
                let wrote = bounded(self.cluster.create(&self.collection, &lease)).await;
                self.wrote(&record, wrote, began);
            }
            Do::Replace(record, version) => {
                let wrote = self.replace(&record, version).await;
                self.wrote(&record, wrote, began);
            }
        }
    }

    async fn replace(&self, record: &Record, version: String) -> Result<Lease, Failure> {
        let path = format!("{}/{NAME}", self.collection);
        let lease = self.lease(record, Some(version));
        bounded(self.cluster.replace(&path, &lease)).await
    }

    fn wrote(&mut self, record: &Record, wrote: Result<Lease, Failure>, began: Instant) {
        let wrote = match wrote {
            Ok(lease) => Wrote::Done(lease.metadata.resource_version.unwrap_or_default()),
            Err(failure) if matches!(failure.status(), Some(404 | 409)) => Wrote::Conflict,
            Err(failure) => {
                tracing::debug!(%failure, "the Lease was not written");
                Wrote::Unknown
            }
        };
        let now = Instant::now();
        self.election.wrote(record, wrote, began, now);
    }

    async fn give_back(&mut self) {
        self.held.send_replace(None);
        if let Some((record, version)) = self.election.give_back(Instant::now()) {
            match self.replace(&record, version).await {
                Ok(_) => tracing::info!("gave the Lease back"),
                Err(failure) => tracing::info!(%failure, "the Lease ends by itself"),
            }
        }
    }

    fn tell(&mut self, until: Option<Instant>) {
        let before = self.held.send_replace(until);
        match (before, until) {
            (None, Some(_)) => {
                self.acquired = Some(Timestamp::now());
                tracing::info!("holds the Lease: writes statuses and waypoints");
            }
            (Some(_), None) => tracing::info!("holds the Lease no longer"),
            _ => {}
        }
    }

    fn lease(&self, record: &Record, version: Option<String>) -> Lease {
        let seconds = i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX);
        let now = Timestamp::now();
        let held = !record.holder.is_empty();
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: held.then(|| record.holder.clone()),
                lease_duration_seconds: Some(seconds),
                acquire_time: held.then(|| MicroTime(self.acquired.unwrap_or(now))),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(record.transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn seen(lease: Lease) -> Seen {
    let spec = lease.spec.unwrap_or_default();
    Seen {
        record: Record {
            holder: spec.holder_identity.unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
        },
        version: lease.metadata.resource_version.unwrap_or_default(),
    }
}

async fn bounded<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::Unreachable(format!("no answer within {PATIENCE:?}"));
    let answer = tokio::time::timeout(PATIENCE, request).await;
    answer.unwrap_or_else(|_| Err(late()))
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Who can no longer say so has stopped.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn end(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake::Fake;

    const LEASES: &str = "coordination.k8s.io/leases";

    fn holder(fake: &Fake) -> Option<String> {
        let lease = fake.object(LEASES, "ambit-system", NAME)?;
        let holder = lease["spec"]["holderIdentity"].as_str();
        Some(holder.unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn one_holds_it_and_gives_it_to_the_next() {
        let fake = Fake::start().await;
        let start = |identity: &str| {
            let (held, holds) = watch::channel(None);
            let (stop, stopping) = watch::channel(false);
            let namespace = "ambit-system".to_owned();
            let running = run(
                fake.cluster(),
                namespace,
                identity.to_owned(),
                held,
                stopping,
            );
            (tokio::spawn(running), holds, stop)
        };
        fake.fail("POST", 500, None);
        let (first, mut holds, stop) = start("first");
        holds.wait_for(Option::is_some).await.expect("it runs");
        assert_eq!(holder(&fake).as_deref(), Some("first"));
        let (_second, mut next, _keep) = start("second");
        fake.until(|fake| fake.requests("GET").len() > 2).await;
        assert!(next.borrow().is_none());
        stop.send_replace(true);
        first.await.expect("it ends");
        assert!(holds.borrow().is_none());
        next.wait_for(Option::is_some).await.expect("it runs");
        assert_eq!(holder(&fake).as_deref(), Some("second"));
    }
}
