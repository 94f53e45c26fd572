//! DNS of pods.

use std::time::Duration;

use ambit_proxy::config::{Reader, value};
use serde::Serialize;

/// DNS of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Whether questions of pods are answered. The node agent says which pods' are led here.
    pub capture: bool,
    /// Time for the resolver that a pod asked.
    #[serde(serialize_with = "value::duration")]
    pub timeout: Duration,
    /// Questions a pod may have open at a time.
    pub queries_per_pod: u32,
}

impl Dns {
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.only(
            "ISTIO_META_DNS_PROXY_ADDR",
            &["localhost:15053", "127.0.0.1:15053", "[::1]:15053"],
            "DNS at another address than the one that pods are redirected to",
        );
        Self {
            capture: reader.value(
                "ISTIO_META_DNS_CAPTURE",
                "answers the DNS questions of pods on port 15053 of their loopback addresses",
                true,
            ),
            timeout: reader.value(
                "AMBIT_DNS_TIMEOUT",
                "limit for the answer of the resolver that a pod asked",
                Duration::from_secs(4),
            ),
            queries_per_pod: reader.number(
                "AMBIT_DNS_QUERIES_PER_POD",
                "DNS questions a pod may have open at a time, and DNS clients that are connected",
                1000,
                1..=1_000_000,
            ),
        }
    }
}
