//! The threads that carry traffic.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Running worker threads, each with a runtime of its own. They end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    _stop: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` of them, at least one.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(count: usize) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let mut handles = Vec::new();
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    // Ends with an error when the sender is dropped.
                    let _ = runtime.block_on(stopped.changed());
                    runtime.shutdown_background();
                })?;
        }
        Ok(Self {
            handles,
            _stop: stop,
        })
    }

    /// The runtimes; each serves every pod on listeners of its own, and the kernel deals
    /// connections out.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_runs() {
        for (count, threads) in [(0, 1), (3, 3)] {
            let workers = Workers::start(count).expect("started");
            assert_eq!(workers.handles().len(), threads);
            for handle in workers.handles() {
                let (sender, receiver) = std::sync::mpsc::channel();
                handle.spawn(async move {
                    sender.send(std::thread::current().name().map(str::to_owned))
                });
                let name = receiver.recv().expect("the runtime runs").expect("a name");
                assert!(name.starts_with("worker-"), "{name}");
            }
        }
    }
}
