//! Certificates that their issuers have taken back: lists of them in a file (RFC 5280 section 5), as Istio publishes it
//! in ConfigMap `istio-ca-crl`, and whether somebody has shown one.
//!
//! A list counts for the certificates, leaves and intermediates, that are signed with the key it is signed with. Who has no list revokes
//! nothing. A list whose `nextUpdate` has passed goes on to count: what was taken back stays taken back, and a mesh does not
//! stop because nobody has written a list in time; the log says so. Delta lists and indirect lists are not understood, and a file with one
//! is not taken.

mod follow;
mod lists;
mod path;
mod signed;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

pub use follow::follow;
pub use lists::{LONGEST, Lists};

/// A certificate that its issuer has revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate {serial} of {issuer:?} is revoked")]
pub struct Revoked {
    /// Serial number, decimal.
    pub serial: String,
    /// Distinguished name of its issuer.
    pub issuer: String,
}

/// The lists that count now. Cheap to clone; the default has none and never will.
#[derive(Debug, Clone)]
pub struct Revocations(watch::Receiver<Arc<Lists>>);

impl Default for Revocations {
    fn default() -> Self {
        Self(watch::channel(Arc::default()).1)
    }
}

impl Revocations {
    /// What counts now and what will.
    #[must_use]
    pub fn new(lists: watch::Receiver<Arc<Lists>>) -> Self {
        Self(lists)
    }

    fn now(&self) -> Arc<Lists> {
        self.0.borrow().clone()
    }
}

/// Judges chains that lead to some roots, by the lists of now.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    revocations: Revocations,
    roots: Arc<[CertificateDer<'static>]>,
}

impl Judge {
    pub(crate) fn new(revocations: Revocations, roots: Arc<[CertificateDer<'static>]>) -> Self {
        Self { revocations, roots }
    }

    pub(crate) fn roots(&self) -> &Arc<[CertificateDer<'static>]> {
        &self.roots
    }

    /// Whether a certificate of a chain that was verified is revoked.
    ///
    /// # Errors
    /// The one that is.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Revoked> {
        let lists = self.revocations.now();
        lists.tell_of_others(&self.roots);
        match lists.find(leaf, intermediates, &self.roots) {
            Some(revoked) => Err(revoked),
            None => Ok(()),
        }
    }

    /// Waits until a certificate of a chain that was verified is revoked. What was revoked before counts.
    pub(crate) async fn until_revoked(mut self, chain: Arc<[CertificateDer<'static>]>) -> Revoked {
        if let [leaf, intermediates @ ..] = &*chain {
            loop {
                // From here on a change wakes.
                let lists = self.revocations.0.borrow_and_update().clone();
                if let Some(revoked) = lists.find(leaf, intermediates, &self.roots) {
                    return revoked;
                }
                drop(lists);
                if self.revocations.0.changed().await.is_err() {
                    break;
                }
            }
        }
        std::future::pending().await
    }
}
