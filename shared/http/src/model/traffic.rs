//! How the endpoints of a service are chosen and protected, and how TLS is spoken to them.
//!
//! Read from `DestinationRule` (networking.istio.io), `XBackendTrafficPolicy`
//! (gateway.networking.x-k8s.io) and `BackendTLSPolicy` (gateway.networking.k8s.io).

use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use http::HeaderName;
use serde::Serialize;

/// For one service, or one of its ports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficPolicy {
    /// The object that says so.
    pub key: NamespacedName,
    /// The service's key, `namespace/hostname`.
    pub service: NamespacedName,
    /// All ports when absent; a policy for a port wins.
    pub port: Option<u16>,
    #[allow(missing_docs)]
    pub balance: Balance,
    /// New endpoints get their full share only after this.
    pub slow_start: Option<Duration>,
    #[allow(missing_docs)]
    pub outlier: Option<Outlier>,
    #[allow(missing_docs)]
    pub limits: Limits,
    #[allow(missing_docs)]
    pub retry_budget: RetryBudget,
}

/// Who gets the next request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub enum Balance {
    /// The better of two drawn at random, by latency (peak EWMA) times requests in flight.
    #[default]
    PeakEwma,
    /// The better of two drawn at random, by requests in flight.
    LeastRequest,
    /// Any.
    Random,
    /// In turn.
    RoundRobin,
    /// The same for the same value; requests without one are spread.
    ConsistentHash(HashKey),
    /// The same for the same client address, however much it sends (`sessionAffinity: ClientIP` of the Service).
    ClientAffinity,
}

impl Balance {
    /// What keeps requests together, where something does.
    #[must_use]
    pub fn key(&self) -> Option<&HashKey> {
        match self {
            Self::ConsistentHash(key) => Some(key),
            Self::ClientAffinity => Some(&HashKey::SourceIp),
            _ => None,
        }
    }
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum HashKey {
    Header(#[serde(serialize_with = "name")] HeaderName),
    Cookie(Arc<str>),
    Query(Arc<str>),
    SourceIp,
}

/// When an endpoint that fails gets a rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outlier {
    /// That many failures in a row (5xx, or no answer); 0 never.
    pub consecutive_errors: u32,
    /// That many 502, 503, 504 or connect failures in a row; 0 never.
    pub consecutive_gateway_errors: u32,
    /// The first rest; it grows with every further one.
    pub base_ejection: Duration,
    /// How often rests are looked through.
    pub interval: Duration,
    /// At most this share of the endpoints rests at once, in percent.
    pub max_ejected_percent: u8,
}

/// `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Limits {
    /// TCP or tunnelled connections to the service at once.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests at once.
    pub requests: Option<u32>,
    /// TCP connect and handshakes.
    pub connect_timeout: Option<Duration>,
}

/// How many retries a service may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryBudget {
    /// Share of the requests of `interval`, in percent.
    pub percent: u32,
    #[allow(missing_docs)]
    pub interval: Duration,
    /// That many a second are always allowed.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            min_per_second: 10,
        }
    }
}

/// `BackendTLSPolicy`: TLS to the application itself, inside the mesh's tunnel where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendTls {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// The service's key, `namespace/hostname`.
    pub service: NamespacedName,
    /// All ports when absent.
    pub port: Option<u16>,
    /// SNI, and the name the certificate must have unless `subject_alt_names` says others.
    pub hostname: Arc<str>,
    /// DNS names or URIs, one of which the certificate must have.
    pub subject_alt_names: Vec<Arc<str>>,
    /// PEM; `None` trusts the machine's own roots.
    pub roots: Option<Arc<str>>,
    /// It cannot be honoured: requests get 500 with this reason, never plain text.
    pub invalid: Option<Arc<str>>,
}

fn name<S: serde::Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}
