//! Brings together what the node agent announces and what discovery describes.

use std::collections::HashMap;
use std::time::Duration;

use ambit_core::identity::Identity;
use serde::Serialize;
use tokio::task::JoinSet;

use super::announced::{Described, Entry, Serving};
use super::{Announced, Host, State};

/// What connections of a pod have that leaves the mesh as it runs. The agent takes its rules away a second later
/// (`DRAINING_TIME`), and what went on then would break without an end.
const LEAVING: Duration = Duration::from_secs(5);

/// The pods of this node.
pub struct Manager {
    host: Host,
    pods: HashMap<String, Entry>,
    /// Counts the agent's connections: each begins with everything it knows.
    announcement: u64,
    draining: JoinSet<()>,
}

/// A pod, for the admin page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The agent's uid of it.
    pub uid: String,
    /// `namespace/name`.
    pub pod: String,
    /// Who it is.
    pub identity: Identity,
    /// How far it came.
    pub state: State,
}

impl Manager {
    /// No pods yet.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            host,
            pods: HashMap::new(),
            announcement: 0,
            draining: JoinSet::new(),
        }
    }

    /// The agent has connected and will name every pod there is.
    pub fn announcement(&mut self) {
        self.announcement += 1;
    }

    /// The agent announces a pod. Its listeners are open when this returns; what arrives waits
    /// until discovery describes the pod.
    ///
    /// # Errors
    /// Why this one cannot be served; no other is affected. It is tried again until the agent
    /// takes it back.
    pub fn add(&mut self, uid: &str, announced: Announced) -> Result<(), String> {
        let identity = self.host.expected(&announced)?;
        match self.pods.get_mut(uid) {
            Some(entry) if entry.announced == announced => {
                entry.seen = self.announcement;
                return self.start(uid);
            }
            Some(_) => self.remove(uid),
            None => {}
        }
        tracing::info!(
            uid,
            pod = announced.key(),
            netns = announced.netns.inode(),
            "pod added"
        );
        let identity = self.host.certificates.want(&identity);
        let entry = Entry {
            uid: announced.uid(&self.host.origin.cluster_id).into(),
            announced,
            identity,
            seen: self.announcement,
            state: State::Waiting("not looked at yet".to_owned()),
            serving: None,
        };
        self.pods.insert(uid.to_owned(), entry);
        self.start(uid)
    }

    /// The agent names a pod whose network namespace it has sent before.
    ///
    /// # Errors
    /// It has not.
    pub fn keep(&mut self, uid: &str) -> Result<(), String> {
        let unknown = || format!("there is no pod {uid} to keep; send it again with its netns");
        let entry = self.pods.get_mut(uid).ok_or_else(unknown)?;
        entry.seen = self.announcement;
        Ok(())
    }

    /// The agent has named every pod there is: the others are gone.
    pub fn snapshot_sent(&mut self) {
        let current = self.announcement;
        let stale = self.pods.iter().filter(|(_, entry)| entry.seen != current);
        for uid in stale.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
            self.remove(&uid);
        }
    }

    /// A pod is gone. Whatever state it is in, nothing is left waiting for it.
    pub fn remove(&mut self, uid: &str) {
        let Some(entry) = self.pods.remove(uid) else {
            return;
        };
        tracing::info!(uid, pod = entry.announced.key(), "pod removed");
        if let Some(serving) = entry.serving {
            self.stop(serving, self.host.origin.grace.min(LEAVING));
        }
        while self.draining.try_join_next().is_some() {}
    }

    /// Goes on with the pods whose connections wait. Returns whether some are left that failed for
    /// a reason of their own and should be tried again.
    pub fn try_waiting(&mut self) -> bool {
        let waiting = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.state != State::Serving);
        let waiting: Vec<String> = waiting.map(|(uid, _)| uid.clone()).collect();
        let mut again = false;
        for uid in &waiting {
            again |= self.start(uid).is_err();
        }
        again
    }

    /// Every pod, by name.
    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        let summary = |(uid, entry): (&String, &Entry)| Summary {
            uid: uid.clone(),
            pod: entry.announced.key(),
            identity: Identity::clone(entry.identity.identity()),
            state: entry.state.clone(),
        };
        let mut all: Vec<Summary> = self.pods.iter().map(summary).collect();
        all.sort_by(|a, b| a.pod.cmp(&b.pod));
        all
    }

    /// Ends every pod's proxies, all at the same time, and waits for them.
    pub async fn shutdown(mut self) {
        for (_, entry) in std::mem::take(&mut self.pods) {
            if let Some(serving) = entry.serving {
                self.stop(serving, self.host.origin.grace);
            }
        }
        while self.draining.join_next().await.is_some() {}
    }

    /// Opens a pod's listeners unless they are, and identifies it if it can be.
    fn start(&mut self, uid: &str) -> Result<(), String> {
        let Some(entry) = self.pods.get_mut(uid) else {
            return Ok(());
        };
        let serving = match entry.serving.take() {
            Some(serving) => serving,
            None => self.host.serve(entry).map_err(|error| {
                tracing::warn!(pod = entry.announced.key(), %error, "pod is not served");
                entry.state = State::Waiting(error.to_string());
                format!("pod {}: {error}", entry.announced.key())
            })?,
        };
        let serving = entry.serving.insert(serving);
        if entry.state == State::Serving {
            return Ok(());
        }
        let index = self.host.shared.index();
        let waits = match entry.announced.described(&index, &entry.uid) {
            Described::Known(workload) => {
                let identity = &workload.identity;
                if **entry.identity.identity() != *identity {
                    entry.identity = self.host.certificates.want(identity);
                }
                tracing::info!(pod = entry.announced.key(), %identity, "pod is served");
                self.host.identify(serving, entry.identity.clone());
                entry.state = State::Serving;
                return Ok(());
            }
            Described::Unknown => "discovery does not describe it yet".to_owned(),
            Described::Other(why) => {
                // Told once, not with every push.
                if entry.state != State::Waiting(why.clone()) {
                    tracing::warn!(pod = entry.announced.key(), why, "pod is not served");
                }
                why
            }
        };
        serving.pod.unidentified(&waits);
        entry.state = State::Waiting(waits);
        Ok(())
    }

    fn stop(&mut self, serving: Serving, grace: Duration) {
        let Serving { pod, drain } = serving;
        self.host.shared.remove_pod(&pod);
        self.draining.spawn(drain.run(grace));
    }
}
