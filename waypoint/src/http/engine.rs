//! What requests share: with others of their worker, and with all of the process.

use std::ops::Deref;
use std::sync::Arc;

use ambit_http::ratelimit::RateLimiter;
use ambit_proxy::{Denials, Published};
use ambit_telemetry::metrics::{Requests, Traffic};
use ambit_telemetry::requests::RequestLog;
use ambit_telemetry::trace::Tracing;
use parking_lot::Mutex;

use super::connections::Connections;
use super::keys::KeyStore;
use super::mirror::UnderWay;
use crate::snapshot::Snapshot;

/// Where requests and connections are told of.
pub(crate) struct Telemetry {
    pub(crate) log: RequestLog,
    pub(crate) metrics: Arc<Requests>,
    /// Of connections that are relayed as they are.
    pub(crate) connections: Arc<Traffic>,
    /// `None`: traces are left as they come.
    pub(crate) tracing: Option<Tracing>,
    /// Requests of recorded traces are exemplars of their durations.
    pub(crate) exemplars: bool,
    /// What policies and authorizers have denied.
    pub(crate) denials: Denials,
}

/// Of the process.
pub(crate) struct Common {
    pub(super) limiter: Mutex<RateLimiter>,
    pub(super) keys: Arc<KeyStore>,
    pub(crate) telemetry: Telemetry,
}

/// Of one worker.
pub(crate) struct Engine {
    pub(super) connections: Arc<Connections>,
    pub(super) mirrors: Arc<UnderWay>,
    common: Arc<Common>,
}

impl Common {
    #[must_use]
    pub(crate) fn new(telemetry: Telemetry) -> Self {
        Self {
            limiter: Mutex::default(),
            keys: Arc::default(),
            telemetry,
        }
    }

    /// Forgets rate limits that are gone.
    pub(crate) fn sweep(&self, snapshot: &Snapshot) {
        let limits: hashbrown::HashSet<_> = snapshot
            .config
            .rules()
            .flat_map(|rule| {
                let of_backends = rule.backends.iter().flat_map(|it| &it.filters);
                rule.filters.iter().chain(of_backends)
            })
            .filter_map(|filter| match filter {
                ambit_http::model::Filter::RateLimit(limit) => Some(&limit.key),
                _ => None,
            })
            .collect();
        self.limiter.lock().retain(|key| limits.contains(key));
    }
}

impl Engine {
    /// For the worker whose runtime this is called in. Kept connections end when `current` knows their
    /// workload no more.
    #[must_use]
    pub(crate) fn new(common: Arc<Common>, current: &Arc<Published<Snapshot>>) -> Arc<Self> {
        let connections = Arc::<Connections>::default();
        let current = current.clone();
        let there = move |uid: &str| current.load().index.workload(uid).is_some();
        tokio::spawn(Connections::sweeping(Arc::downgrade(&connections), there));
        Arc::new(Self {
            connections,
            mirrors: Arc::default(),
            common,
        })
    }
}

impl Deref for Engine {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}
