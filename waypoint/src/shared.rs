//! What everything on one worker works with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_net::ca::Wanted;
use ambit_proxy::Published;
use tokio::sync::watch;

use crate::http::Engine;
use crate::session::Sessions;
use crate::snapshot::Snapshot;
use crate::trusted::TrustedProxies;
use crate::upstream::Upstreams;

/// One a worker: connections to endpoints stay on the thread that opened them.
pub(crate) struct Shared {
    /// `namespace/name` of the Gateway.
    pub(crate) gateway: NamespacedName,
    /// The waypoint's own service.
    pub(crate) service: NamespacedName,
    /// The network it is on, until discovery says so.
    pub(crate) network: Arc<str>,
    /// The network that it is the gateway of, instead of a waypoint.
    pub(crate) leads_into: Option<Arc<str>>,
    pub(crate) me: Identity,
    pub(crate) trusted: TrustedProxies,
    pub(crate) certificate: Wanted,
    pub(crate) current: Arc<Published<Snapshot>>,
    /// Tells of policies that have changed.
    pub(crate) policies: watch::Receiver<()>,
    pub(crate) upstreams: Upstreams,
    pub(crate) http: Arc<Engine>,
    /// Of all workers.
    pub(crate) sessions: Arc<Sessions>,
    /// The drain has cut off what had not ended.
    pub(crate) cut: AtomicBool,
}

impl Shared {
    /// The network it is on.
    pub(crate) fn network<'a>(&'a self, snapshot: &'a Snapshot) -> &'a Arc<str> {
        let me = snapshot.index.workload(&self.upstreams.uid);
        me.map_or(&self.network, |me| &me.network)
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}
