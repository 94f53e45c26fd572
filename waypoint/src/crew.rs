//! Which worker serves a connection, and which a tunnel.
//!
//! The kernel deals connections out by chance, and a few of them can be all that a waypoint has: a new one goes to the
//! worker with the least to do. Its frames and its TLS stay there; its tunnels may run anywhere. A tunnel stays at home,
//! where it costs least, unless home has more to do than another worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::shared::Shared;

/// What a connection counts for beside its tunnels: those that it will have.
const CONNECTION: usize = 4 * (SERVE + CARRY);
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

/// A part of what a worker has to do; done when it is dropped.
struct Share {
    crew: Arc<Crew>,
    at: usize,
    cost: usize,
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

    /// Serves a connection that was accepted here, here or elsewhere.
    ///
    /// # Errors
    /// When it cannot be handed over.
    pub(crate) fn spawn_connection<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(Self, TcpStream) -> F,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let at = self.choose(0);
        let share = self.share(at, CONNECTION);
        let member = Self {
            crew: self.crew.clone(),
            number: at,
        };
        let runtime = member.runtime().clone();
        let stream = match at == self.number {
            true => stream,
            false => {
                let _entered = runtime.enter();
                TcpStream::from_std(stream.into_std()?)?
            }
        };
        let work = serve(member, stream);
        runtime.spawn(async move {
            work.await;
            drop(share);
        });
        Ok(())
    }

    /// Runs the tunnel of a connection that is here, here or elsewhere.
    pub(crate) fn spawn_tunnel<F>(&self, tunnel: impl FnOnce(Arc<Shared>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let at = self.choose(SLACK);
        let shares = [self.share(at, SERVE), self.share(self.number, CARRY)];
        let worker = &self.crew.0[at];
        let work = tunnel(worker.shared.clone());
        worker.runtime.spawn(async move {
            work.await;
            drop(shares);
        });
    }

    fn share(&self, at: usize, cost: usize) -> Share {
        self.crew.0[at].load.fetch_add(cost, Ordering::Relaxed);
        Share {
            crew: self.crew.clone(),
            at,
            cost,
        }
    }

    fn choose(&self, slack: usize) -> usize {
        let workers = self.crew.0.iter();
        let loads = workers.map(|it| it.load.load(Ordering::Relaxed));
        choose(loads, self.number, slack)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let worker = &self.crew.0[self.at];
        worker.load.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

/// The idlest worker, or `home` while that has no more than `slack` more to do.
fn choose(loads: impl Iterator<Item = usize> + Clone, home: usize, slack: usize) -> usize {
    let idlest = loads.clone().enumerate().min_by_key(|(_, load)| *load);
    let own = loads.clone().nth(home).unwrap_or(0);
    match idlest {
        Some((at, load)) if own > load + slack => at,
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
            let chosen = choose(loads.iter().copied(), home, SLACK);
            assert_eq!(chosen, at, "{loads:?} {home}");
        }
    }

    #[test]
    fn connections_are_dealt_out_evenly() {
        let mut loads = [0; 3];
        for at in [0, 0, 0, 2, 2, 2] {
            let at = choose(loads.iter().copied(), at, 0);
            loads[at] += CONNECTION;
        }
        assert_eq!(loads, [2 * CONNECTION; 3]);
    }

    #[test]
    fn the_tunnels_of_one_connection_use_every_worker_alike() {
        for count in [2, 4] {
            let mut loads = vec![0; count];
            for _ in 0..1_000 {
                let at = choose(loads.iter().copied(), 0, SLACK);
                loads[at] += SERVE;
                loads[0] += CARRY;
            }
            let (least, most) = (loads.iter().min(), loads.iter().max());
            let uneven = most.zip(least).map(|(most, least)| most - least);
            assert!(uneven <= Some(2 * SLACK), "{loads:?}");
        }
    }
}
