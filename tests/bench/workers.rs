//! What keeps the threads that carry traffic from it: work in one piece, and waits for anything but events.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::process::Processes;

/// How often they are looked at, at best.
const LOOK: Duration = Duration::from_millis(1);

/// A worker of a node proxy.
struct Worker {
    /// /proc/PID/task/TID/schedstat: its processor time first, in nanoseconds.
    schedule: File,
    /// /proc/PID/task/TID/status: among others, how often it began to wait.
    status: File,
    /// /proc/PID/task/TID/syscall: the number of the one that it is in first, or `running`.
    call: File,
    seen: Seen,
    /// Its processor time when it last waited, or before.
    since: Duration,
    held: Duration,
    longest: Duration,
}

/// A worker at one look.
#[derive(Default)]
struct Seen {
    ran: Duration,
    waits: u64,
}

/// The longest stretch, until it is over, in which a worker of these proxies did nothing but work (processor time without one
/// wait), or waited for anything but events (a lock, memory). Time in which it only waits for a processor is the machine's. None
/// where no thread is named as Ambit's workers are.
pub(crate) fn longest_stretch(
    proxies: &Processes,
    over: &AtomicBool,
) -> anyhow::Result<Option<Duration>> {
    let mut workers = Vec::new();
    for process in proxies.folders()? {
        for task in fs::read_dir(process.join("task"))? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm"))?.starts_with("worker-") {
                workers.push(Worker::of(&task)?);
            }
        }
    }
    let mut looked = Instant::now();
    while !over.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let passed = looked.elapsed();
        looked += passed;
        for worker in &mut workers {
            worker.look(passed)?;
        }
    }
    Ok(workers.iter().map(|it| it.longest).max())
}

impl Worker {
    fn of(task: &Path) -> anyhow::Result<Self> {
        let open = |name: &str| {
            let path = task.join(name);
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))
        };
        let mut worker = Self {
            schedule: open("schedstat")?,
            status: open("status")?,
            call: open("syscall")?,
            seen: Seen::default(),
            since: Duration::ZERO,
            held: Duration::ZERO,
            longest: Duration::ZERO,
        };
        worker.seen = worker.see()?;
        worker.since = worker.seen.ran;
        Ok(worker)
    }

    fn see(&self) -> anyhow::Result<Seen> {
        let ran = text(&self.schedule)?;
        let ran = ran.split_whitespace().next().and_then(|it| it.parse().ok());
        let ran = ran.context("schedstat begins with no time")?;
        let status = text(&self.status)?;
        let mut lines = status.lines();
        let waits = lines.find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
        let waits = waits.and_then(|it| it.trim().parse().ok());
        Ok(Seen {
            ran: Duration::from_nanos(ran),
            waits: waits.context("status has no number of switches")?,
        })
    }

    fn look(&mut self, passed: Duration) -> anyhow::Result<()> {
        let now = self.see()?;
        let call = text(&self.call)?;
        let has_waited = now.waits != self.seen.waits;
        if has_waited {
            self.since = self.seen.ran;
        }
        self.held = match is_event_or_none(&call) {
            true => Duration::ZERO,
            false if has_waited => passed,
            false => self.held + passed,
        };
        let worked = now.ran.saturating_sub(self.since);
        self.longest = self.longest.max(worked).max(self.held);
        self.seen = now;
        Ok(())
    }
}

/// Whether this is a wait for events, or no system call.
fn is_event_or_none(call: &str) -> bool {
    let call = call.split_whitespace().next().unwrap_or_default();
    let is_wait = |number: libc::c_long| call == number.to_string();
    #[cfg(target_arch = "x86_64")]
    let is_old = is_wait(libc::SYS_epoll_wait);
    #[cfg(not(target_arch = "x86_64"))]
    let is_old = false;
    call == "running" || is_old || is_wait(libc::SYS_epoll_pwait)
}

/// A small file of /proc.
fn text(file: &File) -> anyhow::Result<String> {
    let mut bytes = [0; 4096];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(std::str::from_utf8(&bytes[..length])?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A thread that says who it is, then does this.
    fn worker(work: impl FnOnce() + Send + 'static) -> (Worker, thread::JoinHandle<()>) {
        let (told, tid) = mpsc::channel();
        let handle = thread::spawn(move || {
            told.send(nix::unistd::gettid()).expect("it is awaited");
            work();
        });
        let tid = tid.recv().expect("a thread");
        let task = format!("/proc/self/task/{tid}");
        (Worker::of(Path::new(&task)).expect("a task"), handle)
    }

    #[test]
    fn work_and_locks_are_stretches_and_waits_for_events_are_none() {
        static OVER: AtomicBool = AtomicBool::new(false);
        let (mut busy, worked) = worker(|| {
            while !OVER.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let (mut held, waited) = worker(|| {
            while !OVER.load(Ordering::Relaxed) {
                thread::park();
            }
        });
        let (event, events) = tokio::sync::oneshot::channel::<()>();
        let (mut idle, polled) = worker(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let done = runtime.expect("a runtime").block_on(events);
            assert!(done.is_ok());
        });
        let enough = Duration::from_millis(20);
        let mut last = Instant::now();
        let end = last + Duration::from_secs(30);
        while busy.longest.min(held.longest) < enough && last < end {
            thread::sleep(LOOK);
            let passed = last.elapsed();
            last += passed;
            for worker in [&mut busy, &mut held, &mut idle] {
                worker.look(passed).expect("it is there");
            }
        }
        OVER.store(true, Ordering::Relaxed);
        waited.thread().unpark();
        event.send(()).expect("it is awaited");
        for thread in [worked, waited, polled] {
            thread.join().expect("no panic");
        }
        assert!(busy.longest >= enough, "{:?}", busy.longest);
        assert!(held.longest >= enough, "{:?}", held.longest);
        assert!(idle.longest < enough, "{:?}", idle.longest);
    }
}
