//! Follows the node agent: keeps a connection to it, and the manager doing what it says.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::{Pin, pin};
use std::time::Duration;

use ambit_net::sys::Netns;
use ambit_net::zds::{Client, Error, Request};
use ambit_telemetry::readiness::Task;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Announced, Kind, Manager, Summary};

/// Waits between two attempts to reach the agent.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Wait before a pod is tried again that could not be served for a reason of its own.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What follows has to do with the rest of the process.
pub struct Surroundings {
    /// Grows with every push of discovery.
    pub changed: watch::Receiver<u64>,
    /// Returns once discovery has said everything it has to say at first.
    pub synced: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Done once every pod that was announced and described first is served.
    pub ready: Task,
    /// Told of every change.
    pub summaries: watch::Sender<Vec<Summary>>,
}

/// Runs until `end`, and gives the manager back.
pub async fn follow(
    path: &Path,
    mut manager: Manager,
    surroundings: Surroundings,
    end: impl Future<Output = ()>,
) -> Manager {
    let Surroundings {
        mut changed,
        mut synced,
        ready,
        summaries,
    } = surroundings;
    let mut ready = Some(ready);
    let mut snapshot_received = false;
    let mut agent = Agent::default();
    let mut try_again = None;
    let mut end = pin!(end);
    let mut is_synced = false;
    loop {
        tokio::select! {
            () = &mut end => return manager,
            () = &mut synced, if !is_synced => is_synced = true,
            Ok(()) = changed.changed() => {}
            () = at(try_again) => {}
            event = agent.next(path) => match event {
                Event::Connected => manager.announcement(),
                Event::Asked(request) => {
                    snapshot_received |= matches!(request, Request::SnapshotSent);
                    let outcome = obey(&mut manager, request);
                    if let Err(reason) = &outcome {
                        tracing::warn!(reason, "a request of the node agent is refused");
                    }
                    agent.acknowledge(outcome).await;
                }
            },
        }
        let left = manager.try_waiting();
        try_again = left.then(|| Instant::now() + TRY_AGAIN);
        summaries.send_replace(manager.summaries());
        if snapshot_received && is_synced {
            ready.take();
        }
    }
}

fn obey(manager: &mut Manager, request: Request<OwnedFd>) -> Result<(), String> {
    match request {
        Request::Add { uid, info, netns } => {
            let netns = Netns::from_fd(netns);
            let netns = netns.map_err(|e| format!("the network namespace of pod {uid}: {e}"))?;
            let announced = Announced {
                kind: Kind::Pod,
                name: info.name,
                namespace: info.namespace,
                service_account: info.service_account,
                netns,
            };
            manager.add(&uid, announced)
        }
        Request::Keep { uid } => manager.keep(&uid),
        Request::Del { uid } => {
            manager.remove(&uid);
            Ok(())
        }
        Request::SnapshotSent => {
            manager.snapshot_sent();
            Ok(())
        }
    }
}

enum Event {
    Connected,
    Asked(Request<OwnedFd>),
}

/// The connection to the agent, made again whenever it is lost. Pods are served meanwhile.
#[derive(Default)]
struct Agent {
    client: Option<Client>,
    wait: Duration,
    retry_at: Option<Instant>,
}

impl Agent {
    /// What happens next. Cancel safe.
    async fn next(&mut self, path: &Path) -> Event {
        loop {
            let Some(client) = &mut self.client else {
                at_once_or(self.retry_at).await;
                match Client::connect(path).await {
                    Ok(client) => {
                        tracing::info!(path = %path.display(), "connected to the node agent");
                        self.client = Some(client);
                        self.wait = Duration::ZERO;
                        return Event::Connected;
                    }
                    Err(error) => self.lost(&error),
                }
                continue;
            };
            match client.receive().await {
                Ok(Some(request)) => return Event::Asked(request),
                Ok(None) => self.lost(&"the node agent closed the connection"),
                Err(error) => self.lost(&error),
            }
        }
    }

    async fn acknowledge(&mut self, outcome: Result<(), String>) {
        let Some(client) = &mut self.client else {
            return;
        };
        let outcome = match &outcome {
            Ok(()) => Ok(()),
            Err(reason) => Err(reason.as_str()),
        };
        let sent: Result<(), Error> = client.acknowledge(outcome).await;
        if let Err(error) = sent {
            self.lost(&error);
        }
    }

    fn lost(&mut self, why: &dyn std::fmt::Display) {
        self.client = None;
        self.wait = (self.wait * 2).clamp(RECONNECT.0, RECONNECT.1);
        self.retry_at = Some(Instant::now() + self.wait);
        tracing::warn!(%why, retry_in = ?self.wait, "no node agent; pods are served as they are");
    }
}

async fn at_once_or(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time).await;
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
