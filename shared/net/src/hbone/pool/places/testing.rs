//! Any sequence of callers, dials, settings, ends and evictions: nobody is given what is closed or full, nobody waits for
//! nothing, and at last nothing is left. Property tests and the fuzzer choose the sequences.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::advance;

use super::{Carrier, Connection, Limits, Opened, Peer, Peers, Slot};
use crate::hbone::{Error, Stage};

const IDLE: Duration = Duration::from_secs(90);
/// Streams that are opened before a peer has said how many it takes.
const AT_FIRST: usize = 1;
/// Octets of a step.
const STEP: usize = 2;

/// Octets that say how streams are spread.
const SPREADING: usize = 2;
/// Steps that are taken of a history.
const LONGEST: usize = 128;

/// Lives through a history: what the limits are, then steps.
///
/// # Panics
/// When somebody is given what is closed or full, or waits for nothing, or something is left.
pub fn live(history: &[u8]) {
    let Some(([streams, spread], history)) = history.split_first_chunk::<SPREADING>() else {
        return;
    };
    let limits = Limits {
        streams: usize::from(1 + streams % 3),
        spread: usize::from(spread % 4),
    };
    let (steps, _) = history.as_chunks::<STEP>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(limits);
        for step in steps.iter().take(LONGEST) {
            world.step(*step).await;
            world.check().await;
        }
        world.end().await;
    });
}

/// A connection whose peer says what the test wants.
struct Line {
    peer: usize,
    limit: AtomicUsize,
}

impl Carrier for Line {
    fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }
}

type Settled = BoxFuture<'static, Result<(), Error>>;
type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// A dial without answer.
struct Dial {
    peer: usize,
    answer: Answer<Opened<Line, Settled>>,
}

/// A connection that was opened; an answer is due while its peer has not said how many streams it takes.
struct Open {
    connection: Weak<Connection<Line>>,
    peer: usize,
    answer: Option<Answer<()>>,
}

/// A caller.
struct Waiter {
    peer: usize,
    slot: JoinHandle<Result<Slot<Line>, Error>>,
}

struct World {
    limits: Limits,
    peers: Arc<Peers<u8, Line>>,
    /// A peer's number is its place here; one that was evicted is another than the next of its name.
    numbered: Vec<Weak<Peer<Line>>>,
    dials: Arc<Mutex<Vec<Dial>>>,
    open: Vec<Open>,
    waiters: Vec<Waiter>,
    slots: Vec<Slot<Line>>,
    /// To whom the opening failed in this step.
    failed: Option<usize>,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: Arc::default(),
            numbered: Vec::new(),
            dials: Arc::default(),
            open: Vec::new(),
            waiters: Vec::new(),
            slots: Vec::new(),
            failed: None,
        }
    }

    async fn step(&mut self, [what, which]: [u8; STEP]) {
        self.failed = None;
        match what % 12 {
            0..3 => self.call(which % 2),
            3 | 4 => self.dialled(which, Some(valid())),
            5 if which < 128 => self.dialled(which, Some(SystemTime::UNIX_EPOCH)),
            5 => self.dialled(which, None),
            6 | 7 => self.said(which, usize::from(which >> 4) % 5),
            8 => drop(pick(&mut self.slots, which)),
            9 => {
                let alive: Vec<_> = self.alive().collect();
                if let Some((connection, _)) = alive.get(usize::from(which) % alive.len().max(1)) {
                    connection.close();
                }
            }
            10 => {
                if let Some(waiter) = pick(&mut self.waiters, which) {
                    waiter.slot.abort();
                }
            }
            _ if which < 64 => self.peers.evict(|key| *key == which % 2),
            _ if which < 192 => self.sweep(which < 128).await,
            _ => {
                if let Some((connection, _)) = self.alive().next() {
                    let limit = usize::from(which) % 4;
                    connection.carrier.limit.store(limit, Ordering::Release);
                }
            }
        }
    }

    fn call(&mut self, key: u8) {
        let peer = self.peers.peer(&key);
        let number = self.number(&peer);
        let (limits, dials) = (self.limits, self.dials.clone());
        let slot = tokio::spawn(async move {
            let open = || {
                let (answer, answered) = oneshot::channel();
                let peer = number;
                dials.lock().push(Dial { peer, answer });
                async move { answered.await.expect("every dial is answered") }.boxed()
            };
            peer.slot(limits, SystemTime::now, open).await
        });
        self.waiters.push(Waiter { peer: number, slot });
    }

    fn number(&mut self, peer: &Arc<Peer<Line>>) -> usize {
        let weak = Arc::downgrade(peer);
        let known = self.numbered.iter().position(|it| it.ptr_eq(&weak));
        known.unwrap_or_else(|| {
            self.numbered.push(weak);
            self.numbered.len() - 1
        })
    }

    /// A dial succeeds, or it does not.
    fn dialled(&mut self, which: u8, not_after: Option<SystemTime>) {
        let Some(Dial { peer, answer }) = pick(&mut self.dials.lock(), which) else {
            return;
        };
        let Some(not_after) = not_after else {
            self.failed = Some(peer);
            let _ = answer.send(Err(Error::new(Stage::Connect, "nobody is there")));
            return;
        };
        let limit = AtomicUsize::new(AT_FIRST);
        let connection = Connection::new(Line { peer, limit }, not_after);
        let (said, settled) = oneshot::channel();
        self.open.push(Open {
            connection: Arc::downgrade(&connection),
            peer,
            answer: Some(said),
        });
        let settled = async move { settled.await.expect("every connection settles") };
        let _ = answer.send(Ok(Opened {
            connection,
            settled: settled.boxed(),
        }));
    }

    /// A peer says how many streams it takes; none is an error.
    fn said(&mut self, which: u8, limit: usize) {
        let mut unsettled: Vec<_> = self
            .open
            .iter_mut()
            .filter(|it| it.answer.is_some())
            .collect();
        let count = unsettled.len().max(1);
        let Some(open) = unsettled.get_mut(usize::from(which) % count) else {
            return;
        };
        if let Some(connection) = open.connection.upgrade() {
            connection.carrier.limit.store(limit, Ordering::Release);
        }
        let outcome = match limit {
            0 => Err(Error::new(Stage::Http2, "no streams")),
            _ => Ok(()),
        };
        self.failed = outcome.is_err().then_some(open.peer);
        if let Some(answer) = open.answer.take() {
            let _ = answer.send(outcome);
        }
    }

    async fn sweep(&mut self, is_late: bool) {
        if is_late {
            advance(IDLE).await;
        }
        self.peers.sweep(IDLE);
        for peer in self.peers.0.lock().values() {
            for connection in &peer.0.lock().connections {
                assert!(!connection.is_closed());
                assert!(!is_late || connection.active() > 0, "it is idle");
            }
        }
    }

    fn alive(&self) -> impl Iterator<Item = (Arc<Connection<Line>>, usize)> {
        let alive = |it: &Open| Some((it.connection.upgrade()?, it.peer));
        self.open.iter().filter_map(alive)
    }

    /// Everybody does what there is to do; then all is as it has to be.
    async fn check(&mut self) {
        for _ in 0..16 {
            yield_now().await;
        }
        self.hand_out().await;
        for waiter in &self.waiters {
            assert_eq!(self.steps(waiter.peer), 1, "somebody waits for nothing");
            assert_ne!(self.failed, Some(waiter.peer), "somebody is not told");
        }
        for peer in 0..self.numbered.len() {
            assert!(self.steps(peer) <= 1, "more is opened than is waited for");
        }
        for (connection, _) in self.alive() {
            assert_eq!(connection.active(), self.streams_on(&connection));
        }
        for key in 0..2 {
            let peer = self.peers.0.lock().get(&key).map(Arc::downgrade);
            let number =
                peer.and_then(|it| self.numbered.iter().position(|known| known.ptr_eq(&it)));
            let placed = self.slots.iter().filter(|slot| {
                let connection = slot.connection();
                Some(connection.carrier.peer) == number && !connection.is_closed()
            });
            assert!(self.peers.streams(&key) >= placed.count());
        }
    }

    /// Collects who has got what.
    async fn hand_out(&mut self) {
        for waiter in std::mem::take(&mut self.waiters) {
            if !waiter.slot.is_finished() {
                self.waiters.push(waiter);
                continue;
            }
            let Ok(slot) = waiter.slot.await.expect("no panic") else {
                assert_eq!(self.failed, Some(waiter.peer), "an error that is another's");
                continue;
            };
            let connection = slot.connection().clone();
            assert_eq!(connection.carrier.peer, waiter.peer);
            assert!(!connection.is_closed(), "it is closed");
            assert!(connection.not_after > SystemTime::now(), "it has expired");
            self.slots.push(slot);
            let limit = self.limits.streams.min(connection.carrier.limit());
            assert!(self.streams_on(&connection) <= limit, "it is full");
        }
    }

    fn streams_on(&self, connection: &Arc<Connection<Line>>) -> usize {
        let on = |slot: &&Slot<Line>| Arc::ptr_eq(slot.connection(), connection);
        self.slots.iter().filter(on).count()
    }

    /// What is under way to a peer.
    fn steps(&self, peer: usize) -> usize {
        let dials = self.dials.lock();
        let dials = dials.iter().filter(|dial| dial.peer == peer).count();
        let unsettled = self.open.iter().filter(|it| it.answer.is_some());
        dials + unsettled.filter(|it| it.peer == peer).count()
    }

    /// The network does its work, every stream ends, and time passes.
    async fn end(mut self) {
        while !self.dials.lock().is_empty() || self.open.iter().any(|it| it.answer.is_some()) {
            self.dialled(0, Some(valid()));
            self.said(0, 2);
            self.failed = None;
            self.check().await;
        }
        assert!(self.waiters.is_empty(), "somebody waits for ever");
        self.slots.clear();
        self.sweep(true).await;
        assert_eq!(self.peers.connections(), 0);
        assert!(self.peers.0.lock().is_empty(), "a peer without connections");
        assert_eq!(self.alive().count(), 0, "a connection that nobody uses");
    }
}

fn valid() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

/// Takes one out.
fn pick<T>(all: &mut Vec<T>, which: u8) -> Option<T> {
    let place = usize::from(which) % all.len().max(1);
    (place < all.len()).then(|| all.swap_remove(place))
}
