//! Which worker serves a tunnel.
//!
//! The frames and the TLS of an HBONE connection stay with the worker that accepted it; its tunnels may run
//! anywhere. A tunnel stays at home, where it costs least, unless home has more to do than another worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

use crate::shared::Shared;

/// What a tunnel costs the worker that serves it.
const SERVE: usize = 3;
/// What it costs the worker that has its connection.
const CARRY: usize = 1;
/// Home may have that much more to do than the idlest worker: sixteen tunnels. What goes to another worker costs both of them
/// a wake-up each way.
const SLACK: usize = 16 * (SERVE + CARRY);

/// All workers.
pub(crate) struct Crew(Vec<Worker>);

struct Worker {
    runtime: Handle,
    shared: Arc<Shared>,
    load: AtomicUsize,
}

/// A worker of a crew, by its number.
#[derive(Clone)]
pub(crate) struct Member {
    crew: Arc<Crew>,
    number: usize,
}

/// A tunnel's place; left when it is dropped.
struct Place {
    home: Member,
    at: usize,
}

impl Crew {
    /// Of runtimes and what each works with.
    pub(crate) fn new(workers: impl IntoIterator<Item = (Handle, Arc<Shared>)>) -> Arc<Self> {
        let worker = |(runtime, shared)| Worker {
            runtime,
            shared,
            load: AtomicUsize::new(0),
        };
        Arc::new(Self(workers.into_iter().map(worker).collect()))
    }

    /// Each of them.
    pub(crate) fn members(self: &Arc<Self>) -> impl Iterator<Item = Member> {
        (0..self.0.len()).map(|number| Member {
            crew: self.clone(),
            number,
        })
    }
}

impl Member {
    /// Where it runs.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.crew.0[self.number].runtime
    }

    /// What this one works with.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.crew.0[self.number].shared
    }

    /// Runs the tunnel of a connection that is here, here or elsewhere.
    pub(crate) fn spawn_tunnel<F>(&self, tunnel: impl FnOnce(Arc<Shared>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let workers = &self.crew.0;
        let loads = workers.iter().map(|it| it.load.load(Ordering::Relaxed));
        let at = choose(loads, self.number);
        let place = Place::take(self.clone(), at);
        let work = tunnel(workers[at].shared.clone());
        workers[at].runtime.spawn(async move {
            work.await;
            drop(place);
        });
    }
}

impl Place {
    fn take(home: Member, at: usize) -> Self {
        let workers = &home.crew.0;
        workers[at].load.fetch_add(SERVE, Ordering::Relaxed);
        workers[home.number]
            .load
            .fetch_add(CARRY, Ordering::Relaxed);
        Self { home, at }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let workers = &self.home.crew.0;
        workers[self.at].load.fetch_sub(SERVE, Ordering::Relaxed);
        workers[self.home.number]
            .load
            .fetch_sub(CARRY, Ordering::Relaxed);
    }
}

/// The idlest worker, or `home` while that is not much busier.
fn choose(loads: impl Iterator<Item = usize> + Clone, home: usize) -> usize {
    let idlest = loads.clone().enumerate().min_by_key(|(_, load)| *load);
    let own = loads.clone().nth(home).unwrap_or(0);
    match idlest {
        Some((at, load)) if own > load + SLACK => at,
        _ => home,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_stays_at_home_unless_another_worker_is_much_idler() {
        for (loads, home, at) in [
            (&[0, 0][..], 1, 1),
            (&[SLACK, 0], 0, 0),
            (&[SLACK + 1, 0], 0, 1),
            (&[0, SLACK + 1], 1, 0),
            (&[SLACK + 9, 5, 2], 0, 2),
            (&[9], 0, 0),
        ] {
            assert_eq!(choose(loads.iter().copied(), home), at, "{loads:?} {home}");
        }
    }

    #[test]
    fn the_tunnels_of_one_connection_use_every_worker_alike() {
        for count in [2, 4] {
            let mut loads = vec![0; count];
            for _ in 0..1_000 {
                let at = choose(loads.iter().copied(), 0);
                loads[at] += SERVE;
                loads[0] += CARRY;
            }
            let (least, most) = (loads.iter().min(), loads.iter().max());
            let uneven = most.zip(least).map(|(most, least)| most - least);
            assert!(uneven <= Some(2 * SLACK), "{loads:?}");
        }
    }
}
