//! A pod that the node agent announced, or the machine that this is, and how far it came.

use std::sync::Arc;

use ambit_core::index::Index;
use ambit_core::model::Workload;
use ambit_net::ca::Wanted;
use ambit_net::sys::Netns;
use serde::Serialize;

use crate::proxy::Pod;
use ambit_proxy::Drain;

/// Who says that there is a workload, and as what discovery describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pod, announced by the node agent.
    Pod,
    /// The machine that this process runs on, by its configuration: a WorkloadEntry.
    Machine,
}

/// What the node agent says of a pod, or the configuration of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Which of them.
    pub kind: Kind,
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its network namespace.
    pub netns: Netns,
}

impl Announced {
    /// The uid under which discovery describes it.
    #[must_use]
    pub fn uid(&self, cluster_id: &str) -> String {
        let kind = match self.kind {
            Kind::Pod => "/Pod",
            Kind::Machine => "networking.istio.io/WorkloadEntry",
        };
        format!("{cluster_id}/{kind}/{}/{}", self.namespace, self.name)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The description of this pod, when there is one and it is about the same pod. There is none
    /// before policies are known: what it may do could not be judged.
    pub(super) fn described<'a>(&self, index: &'a Index, uid: &str) -> Described<'a> {
        if !index.policies_synced() {
            return Described::Unknown;
        }
        let Some(workload) = index.workload(uid) else {
            return Described::Unknown;
        };
        let account = workload.identity.service_account();
        if **account != *self.service_account || *workload.namespace != *self.namespace {
            let who = match self.kind {
                Kind::Pod => "the node agent",
                Kind::Machine => "PROXY_WORKLOAD_INFO",
            };
            return Described::Other(format!(
                "{who} says service account {}, discovery says {}",
                self.service_account, workload.identity
            ));
        }
        Described::Known(workload)
    }
}

/// What discovery says of a pod.
pub(super) enum Described<'a> {
    /// Nothing yet.
    Unknown,
    /// Something that does not fit.
    Other(String),
    /// Who it is.
    Known(&'a Arc<Workload>),
}

/// How far a pod came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Its connections wait, and why.
    Waiting(String),
    /// Its connections are carried.
    Serving,
}

/// A pod and what serves it.
pub(super) struct Entry {
    pub(super) announced: Announced,
    /// Uid in discovery.
    pub(super) uid: Arc<str>,
    /// The certificate that is kept for it: until discovery describes it, that of whom the node
    /// agent says it is.
    pub(super) identity: Wanted,
    /// The announcement that was current when it was last named.
    pub(super) seen: u64,
    pub(super) state: State,
    /// What serves it; nothing when its listeners could not be opened.
    pub(super) serving: Option<Serving>,
}

/// What serves a pod.
pub(super) struct Serving {
    pub(super) pod: Arc<Pod>,
    pub(super) drain: Drain,
}
