//! How every certificate stands, for the admin page.

use std::sync::Arc;

use ambit_core::identity::Identity;

use super::store::Shared;
use crate::tls::Certified;

/// One identity of the store.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose.
    pub identity: Identity,
    /// Where it stands.
    pub standing: Standing,
    /// The certificate that was obtained last; expired if the standing is not `Valid`.
    pub certified: Option<Arc<Certified>>,
    /// Why the last attempt failed; None when it succeeded.
    pub last_error: Option<String>,
}

/// How usable an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has a certificate.
    Valid,
    /// It had one; connections are refused until there is a new one.
    Expired,
    /// None yet, no attempt has failed.
    Pending,
    /// None yet, and the last attempt failed.
    Failed,
}

/// Every identity, sorted.
pub(super) fn take(shared: &Shared) -> Vec<Entry> {
    let desk = shared.desk.lock();
    let serving = shared.serving.load();
    let mut entries: Vec<Entry> = desk
        .seats
        .iter()
        .map(|(identity, seat)| {
            let certified = serving.get(identity).cloned();
            let last_error = seat
                .attempts
                .borrow()
                .as_ref()
                .map(|failure| failure.error.to_string());
            let standing = match (&certified, &last_error) {
                (Some(certified), _) if shared.is_valid(certified) => Standing::Valid,
                (Some(_), _) => Standing::Expired,
                (None, None) => Standing::Pending,
                (None, Some(_)) => Standing::Failed,
            };
            Entry {
                identity: identity.clone(),
                standing,
                certified,
                last_error,
            }
        })
        .collect();
    entries.sort_by(|a, b| a.identity.cmp(&b.identity));
    entries
}
