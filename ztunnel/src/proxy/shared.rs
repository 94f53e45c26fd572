//! What the proxies of all pods have in common.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ambit_core::index::Index;
use ambit_core::model::Workload;
use ambit_core::plan::{HBONE_PORT, OutboundTrafficPolicy};
use ambit_net::hbone::{self, Pool};
use ambit_proxy::{Hosts, Published};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Handshakes, Pod, dns, udp};
use crate::connections::Connections;

/// How pods are served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits of tunnels.
    pub hbone: hbone::Settings,
    /// TCP to a server or a plain destination.
    pub connect_timeout: Duration,
    /// A connection of which one direction has ended is given up when the other is idle for this long.
    pub half_closed: Duration,
    /// Connections of a pod that nobody has described yet wait for this long.
    pub description_timeout: Duration,
    /// Servers are dialled from the client's address.
    pub original_source: bool,
    /// Pods of this node are joined directly.
    pub node_local: bool,
    /// What becomes of connections to what the mesh does not know.
    pub outbound_policy: OutboundTrafficPolicy,
    /// DNS of pods.
    pub dns: dns::Settings,
    /// UDP of pods.
    pub udp: udp::Settings,
}

type Pods = HashMap<Arc<str>, Arc<Pod>>;

/// What the proxies of all pods have in common.
pub struct Shared {
    index: Published<Index>,
    /// Told of every index.
    published: watch::Sender<()>,
    pods: ArcSwap<Pods>,
    pools: Mutex<Vec<Weak<Pool>>>,
    connections: Arc<Connections>,
    handshakes: Handshakes,
    hosts: Hosts,
    settings: Settings,
}

impl Shared {
    /// No pods yet, and an empty index.
    #[must_use]
    pub fn new(settings: Settings, connections: Arc<Connections>, index: Index) -> Arc<Self> {
        Arc::new(Self {
            index: Published::new(index),
            published: watch::Sender::new(()),
            pods: ArcSwap::default(),
            pools: Mutex::default(),
            connections,
            handshakes: Handshakes::default(),
            hosts: settings.dns.hosts(),
            settings,
        })
    }

    /// What is known of the mesh, at this moment. Not to be held across an await.
    #[must_use]
    pub fn index(&self) -> Guard<Arc<Index>> {
        self.index.load()
    }

    /// Publishes a new index; then judges running connections again if it may matter to them.
    pub fn publish(&self, index: Index) {
        let before = self.index.load().authorization_epoch();
        let index = Arc::new(index);
        self.index.replace(index.clone());
        self.published.send_replace(());
        if index.authorization_epoch() != before {
            self.connections.judge_again(&index);
        }
    }

    /// Returns once `workload` is gone, or is another than it was.
    pub(super) async fn changes(&self, workload: &Arc<Workload>) {
        let mut published = self.published.subscribe();
        let has_changed = |_: &()| self.index().workload(&workload.uid) != Some(workload);
        // The sender is our own: it does not end.
        let _ = published.wait_for(has_changed).await;
    }

    /// How pods are served.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connections of all pods.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Handshakes of peers that came to nothing.
    #[must_use]
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// Addresses of hosts that endpoints are known by.
    #[must_use]
    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// HBONE connections from peers, of all pods, handshakes included.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.pods.load().values().map(|pod| pod.peers()).sum()
    }

    /// The pod with this uid, if it is served here.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.load().get(uid).cloned()
    }

    /// Whether the pod with this uid is served here.
    #[must_use]
    pub fn serves(&self, uid: &str) -> bool {
        self.pods.load().contains_key(uid)
    }

    /// Makes a pod reachable for its neighbours.
    pub fn add_pod(&self, pod: &Arc<Pod>) {
        self.pods.rcu(|pods| {
            let mut pods = Pods::clone(pods);
            pods.insert(pod.uid.clone(), pod.clone());
            pods
        });
    }

    /// Takes a pod from its neighbours, unless its place was taken by a newer one.
    pub fn remove_pod(&self, pod: &Arc<Pod>) {
        self.pods.rcu(|pods| {
            let mut pods = Pods::clone(pods);
            if pods
                .get(&pod.uid)
                .is_some_and(|held| Arc::ptr_eq(held, pod))
            {
                pods.remove(&pod.uid);
            }
            pods
        });
    }

    /// Endpoints are gone: nothing new goes over connections to them.
    pub fn evict(&self, endpoints: &[IpAddr]) {
        self.pools.lock().retain(|pool| {
            let Some(pool) = pool.upgrade() else {
                return false;
            };
            for ip in endpoints {
                pool.evict((*ip, HBONE_PORT).into());
            }
            true
        });
    }

    /// Connections to peers that are open, of all pods.
    #[must_use]
    pub fn pooled(&self) -> usize {
        let pools = self.pools.lock();
        pools
            .iter()
            .filter_map(Weak::upgrade)
            .map(|pool| pool.connections())
            .sum()
    }

    pub(super) fn watch_pool(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }
}
