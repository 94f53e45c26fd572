//! Issues requests from several threads.
//!
//! Every thread has its own single-threaded runtime, its own connections and its own recorder: nothing is shared between
//! threads while requests run, so that the client costs as little as it can beside what it measures.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::failure::{Failure, Stage};
use super::options::Issue;
use super::pace::{Pace, Schedule};
use super::record::{Recorder, Totals};

/// Pause after a failed connection attempt in a closed loop: a server that is away must not turn us into a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// One connection that carries requests one after the other.
pub(super) trait Connection {
    /// Makes one request; answers the number of bytes received.
    async fn exchange(&mut self) -> Result<u64, Failure>;

    /// Whether another request may follow.
    fn reusable(&self) -> bool {
        true
    }

    /// Ends the connection in an orderly way.
    async fn close(self);
}

/// Opens connections.
pub(super) trait Dial {
    /// What it opens.
    type Connection: Connection;

    /// Opens the connection of a worker (numbered over all threads).
    async fn dial(&self, worker: usize) -> Result<Self::Connection, Failure>;
}

/// What all workers of a run agree on.
#[derive(Debug)]
struct Plan {
    start: Instant,
    record_from: Instant,
    /// None when requests are counted.
    end: Option<Instant>,
    left: Option<AtomicU64>,
    rate: Option<f64>,
    workers: usize,
    timeout: Duration,
    reuse: bool,
}

/// Runs the requests; `dialer` makes each thread's dialer. The time is the one that the recorded requests took.
pub(super) fn run<D: Dial + 'static>(
    issue: &Issue,
    workers: usize,
    dialer: impl Fn() -> D + Sync,
) -> anyhow::Result<(Duration, Totals)> {
    if issue
        .rate
        .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
    {
        anyhow::bail!("--rate must be above zero");
    }
    let start = Instant::now();
    let record_from = start + issue.warmup;
    let plan = Arc::new(Plan {
        start,
        record_from,
        end: issue.count.is_none().then(|| record_from + issue.duration),
        left: issue.count.map(AtomicU64::new),
        rate: issue.rate,
        workers,
        timeout: issue.timeout,
        reuse: !issue.new_connections,
    });
    let threads = threads(issue.threads, workers);
    let totals = on_threads(threads, |thread| {
        let dialer = Rc::new(dialer());
        let plan = plan.clone();
        async move {
            let recorder = Rc::new(Recorder::default());
            let tasks: Vec<_> = (thread..workers)
                .step_by(threads)
                .map(|worker| {
                    let work = work(worker, plan.clone(), dialer.clone(), recorder.clone());
                    tokio::task::spawn_local(work)
                })
                .collect();
            for task in tasks {
                task.await??;
            }
            Ok(recorder.take())
        }
    })?;
    let elapsed = record_from.elapsed();
    let mut all = Totals::default();
    for part in totals {
        all.merge(part);
    }
    Ok((elapsed, all))
}

/// How many threads for so many tasks.
pub(super) fn threads(wanted: Option<usize>, tasks: usize) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    wanted.unwrap_or_else(available).clamp(1, tasks.max(1))
}

/// Runs a future on each of `count` threads and waits for all; the first error is the result.
pub(super) fn on_threads<T, F>(
    count: usize,
    task: impl Fn(usize) -> F + Sync,
) -> anyhow::Result<Vec<T>>
where
    T: Send,
    F: Future<Output = anyhow::Result<T>>,
{
    std::thread::scope(|scope| {
        let task = &task;
        let threads: Vec<_> = (0..count)
            .map(|thread| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build();
                    let runtime = runtime.context("cannot start a runtime")?;
                    tokio::task::LocalSet::new().block_on(&runtime, async { task(thread).await })
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            })
            .collect()
    })
}

async fn work<D: Dial>(
    worker: usize,
    plan: Arc<Plan>,
    dialer: Rc<D>,
    recorder: Rc<Recorder>,
) -> anyhow::Result<()> {
    let schedule = plan
        .rate
        .map(|rate| Schedule::new(rate, worker, plan.workers));
    let mut pace = Pace::new(plan.start, schedule)?;
    let mut idle: Option<D::Connection> = None;
    while let Some(began) = pace.next(plan.end).await? {
        if !plan.take_one() {
            break;
        }
        let recorded = began.at >= plan.record_from;
        // Its server may have ended it meanwhile.
        let kept = idle.take().filter(Connection::reusable);
        let mut connection = match kept {
            Some(connection) => connection,
            None => match dialer.dial(worker).await {
                Ok(connection) => connection,
                Err(failure) => {
                    if recorded {
                        recorder.failure(failure);
                    }
                    if plan.rate.is_none() {
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                    continue;
                }
            },
        };
        let answer = match tokio::time::timeout(plan.timeout, connection.exchange()).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::timeout(Stage::Receive)),
        };
        match answer {
            Ok(received) => {
                if recorded {
                    recorder.success(began.at.elapsed(), began.lag, received);
                }
                if plan.reuse && connection.reusable() {
                    idle = Some(connection);
                } else {
                    close(connection, plan.timeout).await;
                }
            }
            Err(failure) if recorded => recorder.failure(failure),
            Err(_) => {}
        }
    }
    if let Some(connection) = idle {
        close(connection, plan.timeout).await;
    }
    Ok(())
}

async fn close(connection: impl Connection, timeout: Duration) {
    // The answers are in: a peer that does not end its side is dropped without a word.
    let _ = tokio::time::timeout(timeout, connection.close()).await;
}

impl Plan {
    /// Takes one of the counted requests; always true when they are not counted.
    fn take_one(&self) -> bool {
        let Some(left) = &self.left else { return true };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    }
}
