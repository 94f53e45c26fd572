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

/// All workers, and what each works with.
pub(crate) struct Crew<S = Shared>(Vec<Worker<S>>);

struct Worker<S> {
    runtime: Handle,
    shared: Arc<S>,
    load: Arc<AtomicUsize>,
}

/// A worker of a crew, by its number.
pub(crate) struct Member<S = Shared> {
    crew: Arc<Crew<S>>,
    number: usize,
}

/// A part of what a worker has to do; done when it is dropped.
struct Burden {
    load: Arc<AtomicUsize>,
    cost: usize,
}

impl<S> Crew<S> {
    /// Of runtimes and what each works with.
    pub(crate) fn new(workers: impl IntoIterator<Item = (Handle, Arc<S>)>) -> Arc<Self> {
        let worker = |(runtime, shared)| Worker {
            runtime,
            shared,
            load: Arc::default(),
        };
        Arc::new(Self(workers.into_iter().map(worker).collect()))
    }

    /// Each of them.
    pub(crate) fn members(self: &Arc<Self>) -> impl Iterator<Item = Member<S>> {
        (0..self.0.len()).map(|number| Member {
            crew: self.clone(),
            number,
        })
    }
}

impl<S> Clone for Member<S> {
    fn clone(&self) -> Self {
        Self {
            crew: self.crew.clone(),
            number: self.number,
        }
    }
}

impl<S> Member<S> {
    /// Where it runs.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.crew.0[self.number].runtime
    }

    /// What this one works with.
    pub(crate) fn shared(&self) -> &Arc<S> {
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
        let burden = self.burden(at, CONNECTION);
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
            drop(burden);
        });
        Ok(())
    }

    /// Runs the tunnel of a connection that is here, here or elsewhere.
    pub(crate) fn spawn_tunnel<F>(&self, tunnel: impl FnOnce(Arc<S>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let at = self.choose(SLACK);
        let burdens = [self.burden(at, SERVE), self.burden(self.number, CARRY)];
        let worker = &self.crew.0[at];
        let work = tunnel(worker.shared.clone());
        worker.runtime.spawn(async move {
            work.await;
            drop(burdens);
        });
    }

    fn burden(&self, at: usize, cost: usize) -> Burden {
        let load = self.crew.0[at].load.clone();
        load.fetch_add(cost, Ordering::Relaxed);
        Burden { load, cost }
    }

    fn choose(&self, slack: usize) -> usize {
        let workers = self.crew.0.iter();
        let loads = workers.map(|it| it.load.load(Ordering::Relaxed));
        choose(loads, self.number, slack)
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.load.fetch_sub(self.cost, Ordering::Relaxed);
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;

    use super::*;

    fn runtime() -> Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        runtime.expect("a runtime")
    }

    fn loads(crew: &Crew<usize>) -> Vec<usize> {
        let loads = crew.0.iter().map(|it| it.load.load(Ordering::Relaxed));
        loads.collect()
    }

    /// All are accepted by one worker, and each tells which one serves it.
    #[test]
    fn connections_are_served_by_every_worker() {
        let runtimes = [runtime(), runtime()];
        let workers = runtimes.iter().enumerate();
        let workers = workers.map(|(at, it)| (it.handle().clone(), Arc::new(at)));
        let crew = Crew::new(workers);
        let home = crew.members().next().expect("a worker");
        runtimes[0].block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let mut clients = Vec::new();
            for _ in 0..4 {
                clients.push(TcpStream::connect(address).await.expect("connected"));
                let (stream, _) = listener.accept().await.expect("accepted");
                let serve = |worker: Member<usize>, mut stream: TcpStream| async move {
                    let at = u8::try_from(**worker.shared()).expect("a small number");
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        stream.write_all(&[at]).await.expect("sent");
                    }
                };
                home.spawn_connection(stream, serve).expect("spawned");
            }
            assert_eq!(loads(&crew), [2 * CONNECTION; 2]);
            let mut served = Vec::new();
            for client in &mut clients {
                client.write_all(&[0]).await.expect("sent");
                served.push(client.read_u8().await.expect("an answer"));
            }
            assert_eq!(served, [0, 1, 0, 1]);
            drop(clients);
            let over = async {
                while loads(&crew) != [0; 2] {
                    tokio::task::yield_now().await;
                }
            };
            let over = tokio::time::timeout(Duration::from_secs(10), over).await;
            over.expect("nothing is left to do");
        });
    }

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
