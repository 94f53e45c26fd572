//! The end of a client's connection in order: what it has asked is answered, then it comes back over another one.

use tokio::sync::watch;

/// Says that what can end should: the process drains, or the HBONE connection around it is of age, or has a
/// certificate that expired.
#[derive(Debug, Clone)]
pub(crate) struct Ending(watch::Receiver<bool>);

impl Ending {
    /// When `signal` becomes true; also when its sender is gone.
    pub(crate) fn new(signal: watch::Receiver<bool>) -> Self {
        Self(signal)
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it has begun.
    pub(crate) async fn begun(&self) {
        let _ = self.0.clone().wait_for(|begun| *begun).await;
    }
}
