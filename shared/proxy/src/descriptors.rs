//! The limit of open descriptors: every connection of a proxy is two.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit to what the system allows.
pub fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
}
