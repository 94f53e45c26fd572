//! The threads that carry traffic, and which of them serve a pod.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::config::{ThreadModel, Threads};

/// Running worker threads. They end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    model: ThreadModel,
    handles: Vec<Handle>,
    load: Arc<[AtomicUsize]>,
    // Of the shared model; it must be dropped where blocking is allowed.
    shared: Option<Runtime>,
    _stop: watch::Sender<()>,
}

/// The runtimes that serve one pod, for as long as it is held.
#[derive(Debug)]
pub struct Lease {
    handles: Vec<Handle>,
    taken: Option<(Arc<[AtomicUsize]>, usize)>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(threads: &Threads) -> io::Result<Self> {
        let count = threads.workers.max(1);
        let (stop, stopped) = watch::channel(());
        let mut workers = Self {
            model: threads.model,
            handles: Vec::new(),
            load: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            shared: None,
            _stop: stop,
        };
        if threads.model == ThreadModel::Shared {
            let runtime = Builder::new_multi_thread()
                .worker_threads(count)
                .thread_name("worker")
                .enable_all()
                .build()?;
            workers.handles.push(runtime.handle().clone());
            workers.shared = Some(runtime);
            return Ok(workers);
        }
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    // Ends with an error when the sender is dropped.
                    let _ = runtime.block_on(stopped.changed());
                    runtime.shutdown_background();
                })?;
        }
        Ok(workers)
    }

    /// The runtimes that shall serve one more pod.
    #[must_use]
    pub fn lease(&self) -> Lease {
        if self.model != ThreadModel::Pod {
            return Lease {
                handles: self.handles.clone(),
                taken: None,
            };
        }
        let load = |at: &usize| self.load[*at].load(Ordering::Relaxed);
        let at = (0..self.handles.len()).min_by_key(load).unwrap_or(0);
        self.load[at].fetch_add(1, Ordering::Relaxed);
        Lease {
            handles: vec![self.handles[at].clone()],
            taken: Some((self.load.clone(), at)),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.shared.take() {
            runtime.shutdown_background();
        }
    }
}

impl Lease {
    /// The runtimes; each serves the pod on listeners of its own.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((load, at)) = &self.taken {
            load[*at].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(model: ThreadModel) -> Workers {
        Workers::start(&Threads { workers: 3, model }).expect("started")
    }

    #[test]
    fn each_model_serves_a_pod_its_way() {
        for (model, runtimes) in [
            (ThreadModel::Shared, 1),
            (ThreadModel::Worker, 3),
            (ThreadModel::Pod, 1),
        ] {
            let workers = start(model);
            let lease = workers.lease();
            assert_eq!(lease.handles().len(), runtimes, "{model:?}");
            for handle in lease.handles() {
                let (sender, receiver) = std::sync::mpsc::channel();
                handle.spawn(async move { sender.send(()) });
                receiver.recv().expect("the runtime runs");
            }
        }
    }

    #[test]
    fn pods_go_to_the_worker_with_the_fewest() {
        let workers = start(ThreadModel::Pod);
        let load = |workers: &Workers| -> Vec<usize> {
            workers
                .load
                .iter()
                .map(|load| load.load(Ordering::Relaxed))
                .collect()
        };
        let mut leases: Vec<Lease> = (0..4).map(|_| workers.lease()).collect();
        assert_eq!(load(&workers), [2, 1, 1]);
        leases.remove(1);
        assert_eq!(load(&workers), [2, 0, 1]);
        leases.push(workers.lease());
        assert_eq!(load(&workers), [2, 1, 1]);
    }
}
