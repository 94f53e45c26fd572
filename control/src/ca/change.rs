//! Another authority takes the place of the one that signs.

use std::sync::Arc;

use tokio::sync::watch;

use super::Authority;

/// Has what was found sign from now on, and says what follows from that. What does not hold together is reported, and the
/// authority stays as it was. Whether another one signs.
pub(super) fn take_up(
    signing: &watch::Sender<Arc<Authority>>,
    found: Result<Authority, String>,
) -> bool {
    let authority = match found {
        Ok(authority) => authority,
        Err(error) => {
            tracing::error!(%error, "kept the certificate authority as it was");
            return false;
        }
    };
    let before = signing.borrow().clone();
    if let Some(gap) = authority.gap(&before) {
        tracing::warn!("{gap}; connections fail until all certificates are renewed");
    }
    let lists = before.revoked() != authority.revoked();
    tracing::info!(
        lists,
        "the certificate authority is another one, or its revocation lists are"
    );
    signing.send_replace(Arc::new(authority));
    true
}
