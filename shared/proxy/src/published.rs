//! What workers read all the time and the control plane's words replace.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;

/// How often it is looked whether an old value is still read.
const PAUSE: Duration = Duration::from_secs(1);

/// A value that is replaced as a whole. Reading it takes no lock.
///
/// The old value of a large mesh takes its time to be freed. No reader pays for that, also not the last one: it is freed where
/// it was replaced.
#[derive(Debug)]
pub struct Published<T>(ArcSwap<T>);

impl<T: Send + Sync + 'static> Published<T> {
    /// With what is in force at first.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// What is in force at this moment. Not to be held across an await.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// The same, to be held as long as it takes.
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts another in force. There is one who does; to be called in the runtime that may take its time, not in one of workers.
    pub fn replace(&self, value: Arc<T>) {
        let old = self.0.swap(value);
        // Outside of a runtime (a test) there is nobody else to leave it to.
        if Arc::strong_count(&old) > 1
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(free(old));
        }
    }
}

/// Frees what others still read, once they do not.
async fn free<T>(old: Arc<T>) {
    while Arc::strong_count(&old) > 1 {
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{self, ThreadId};

    use super::*;

    /// Tells which thread freed it.
    struct Freed(Sender<ThreadId>);

    impl Drop for Freed {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readers_free_nothing() {
        let (sender, freed) = channel();
        let published = Arc::new(Published::new(Freed(sender.clone())));
        for _ in 0..2 {
            let (holds, held) = channel();
            let (goes, on) = channel();
            let reader = published.clone();
            let reader = thread::spawn(move || {
                let kept = reader.load_full();
                let guard = reader.load();
                holds.send(()).expect("somebody waits");
                on.recv().expect("word");
                drop((guard, kept));
            });
            held.recv().expect("a reader");
            published.replace(Arc::new(Freed(sender.clone())));
            tokio::time::sleep(2 * PAUSE).await;
            assert!(freed.try_recv().is_err(), "it is still read");
            goes.send(()).expect("a reader");
            reader.join().expect("a reader ends well");
            assert!(freed.try_recv().is_err(), "the reader has freed it");
            tokio::time::sleep(2 * PAUSE).await;
            assert_eq!(freed.try_recv(), Ok(thread::current().id()));
        }
        // What nobody reads goes at once.
        published.replace(Arc::new(Freed(sender)));
        assert_eq!(freed.try_recv(), Ok(thread::current().id()));
    }
}
