//! The end of a client's connection in order: what it has asked is answered, then it comes back over another one.

use std::sync::Arc;

use tokio::sync::watch;

/// Says that what can end should: the process drains, or the HBONE connection around it is of age, or has a
/// certificate that expired, or another waypoint has what it is a connection with.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    around: watch::Receiver<bool>,
    own: Arc<watch::Sender<bool>>,
}

impl Ending {
    /// When `around` becomes true; also when its sender is gone.
    pub(crate) fn new(around: watch::Receiver<bool>) -> Self {
        Self {
            around,
            own: Arc::default(),
        }
    }

    /// It is to end by itself.
    pub(crate) fn begin(&self) {
        self.own.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.around.borrow() || *self.own.borrow()
    }

    /// Returns when it has begun.
    pub(crate) async fn begun(&self) {
        let (mut around, mut own) = (self.around.clone(), self.own.subscribe());
        tokio::select! {
            _ = around.wait_for(|begun| *begun) => {}
            _ = own.wait_for(|begun| *begun) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn it_begins_for_what_is_around_it_and_by_itself() {
        for by_itself in [false, true] {
            let (around, signal) = watch::channel(false);
            let ending = Ending::new(signal);
            let held = ending.clone();
            assert!(!held.has_begun() && held.begun().now_or_never().is_none());
            match by_itself {
                true => ending.begin(),
                false => _ = around.send_replace(true),
            }
            assert!(held.has_begun() && held.begun().now_or_never().is_some());
        }
    }
}
