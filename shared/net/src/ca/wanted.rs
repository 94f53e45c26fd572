//! The right to a certificate of one identity. Nothing else makes the store obtain one, so what
//! nobody holds is never signed again, however late somebody asks.

use std::fmt;
use std::sync::Arc;

use ambit_core::identity::Identity;
use tokio::time::Instant;

use super::CaError;
use super::store::{Failure, Shared};
use crate::tls::Certified;

/// A certificate that is kept for its holder. Clones count; with the last of them the identity is
/// given up.
pub struct Wanted {
    pub(super) shared: Arc<Shared>,
    pub(super) identity: Arc<Identity>,
}

impl Wanted {
    /// Whose.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The current certificate; waits for the first one, before everything else that is to be
    /// signed.
    ///
    /// # Errors
    /// What the last attempt failed with, when none succeeds within
    /// [`Settings::wait`](super::Settings::wait); at once, when the next attempt is further away
    /// than that.
    pub async fn get(&self) -> Result<Arc<Certified>, CaError> {
        match self.current() {
            Some(certified) => Ok(certified),
            None => Box::pin(self.wait()).await,
        }
    }

    /// The current certificate, if there is one and it has not expired.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Certified>> {
        self.shared.current(&self.identity)
    }

    async fn wait(&self) -> Result<Arc<Certified>, CaError> {
        let deadline = Instant::now() + self.shared.settings.wait;
        let mut attempts = self.shared.hurry(&self.identity);
        loop {
            let last = attempts.borrow_and_update().clone();
            if let Some(certified) = self.current() {
                return Ok(certified);
            }
            if self.shared.stopped() {
                return Err(CaError::Stopped);
            }
            if let Some(Failure { error, retry_at }) = &last
                && *retry_at > deadline
            {
                return Err(error.clone());
            }
            match tokio::time::timeout_at(deadline, attempts.changed()).await {
                Ok(changed) => changed.expect("a held identity keeps its seat"),
                Err(_) => return Err(self.overdue(last)),
            }
        }
    }

    fn overdue(&self, last: Option<Failure>) -> CaError {
        last.map_or_else(
            || CaError::NotYet {
                identity: Identity::clone(&self.identity),
                waited: self.shared.settings.wait,
            },
            |failure| failure.error,
        )
    }
}

impl Clone for Wanted {
    fn clone(&self) -> Self {
        self.shared.take_seat(&self.identity);
        Self {
            shared: Arc::clone(&self.shared),
            identity: Arc::clone(&self.identity),
        }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.shared.leave_seat(&self.identity);
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wanted").field(&self.identity).finish()
    }
}
