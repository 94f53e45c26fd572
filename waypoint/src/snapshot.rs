//! What the control plane has said, as of one moment.

use ambit_core::index::Index;
use ambit_http::config::Config;

/// Workloads and services, and L7 configuration. Cloning costs nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) index: Index,
    pub(crate) config: Config,
}
