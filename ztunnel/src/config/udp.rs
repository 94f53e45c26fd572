//! UDP of pods.

use std::time::Duration;

use ambit_proxy::config::{Reader, value};
use serde::Serialize;

/// UDP of pods that ask for it to be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Udp {
    /// A flow of which nothing has come for so long has ended.
    #[serde(serialize_with = "value::duration")]
    pub idle: Duration,
    /// Flows a pod may have at a time: outbound, of plaintext, and in tunnels of peers, each.
    pub flows_per_pod: u32,
}

impl Udp {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            idle: reader.value(
                "AMBIT_UDP_IDLE_TIMEOUT",
                "a UDP flow of which nothing has come for this long has ended",
                Duration::from_secs(120),
            ),
            flows_per_pod: reader.number(
                "AMBIT_UDP_FLOWS_PER_POD",
                "UDP flows a pod may have at a time: outbound, of plaintext, and in tunnels of peers, each",
                4096,
                1..=1_000_000,
            ),
        }
    }
}
