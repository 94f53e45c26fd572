//! One container: started, probed, restarted as its pod's policy says, ended in order.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::exec::{self, Place};
use super::probe::{Prober, Purpose};
use crate::stage::{self, RunSpec, Target};

const STARTING: Duration = Duration::from_millis(2);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A run of this length forgives the failures before it.
const LONG_RUN: Duration = Duration::from_secs(20);

/// What happens to a container.
#[derive(Debug)]
pub(super) enum Event {
    Running {
        pid: u32,
    },
    Ready(bool),
    Ended {
        code: i32,
        again: bool,
    },
    Waiting {
        reason: &'static str,
        message: String,
    },
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

/// What a person or a probe asks of a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End it at once; the restart policy decides what follows.
    Kill,
    /// End it in order and start it again.
    Restart,
}

/// Everything that a container's task needs.
pub(super) struct Task {
    pub(super) container: Container,
    pub(super) spec: RunSpec,
    pub(super) file: PathBuf,
    pub(super) log: PathBuf,
    pub(super) policy: Policy,
    pub(super) grace: Duration,
    /// The grace that whoever ended the pod asked for.
    pub(super) asked: Arc<OnceLock<Duration>>,
    pub(super) probers: BTreeMap<&'static str, Prober>,
    pub(super) events: mpsc::UnboundedSender<(usize, Event)>,
    pub(super) index: usize,
    /// Becomes true when the pod ends.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
}

impl Task {
    /// Runs the container until it is finished or its pod ends.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut first = true;
        while !*self.ending.borrow() {
            let began = Instant::now();
            let (code, ordered) = match self.start() {
                Ok(mut child) => self.attend(&mut child).await,
                Err(error) => {
                    let message = error.to_string();
                    self.tell(Event::Waiting {
                        reason: "RunContainerError",
                        message,
                    });
                    (128, false)
                }
            };
            let again = !*self.ending.borrow()
                && (ordered
                    || match self.policy {
                        Policy::Always => true,
                        Policy::OnFailure => code != 0,
                        Policy::Never => false,
                    });
            self.tell(Event::Ended { code, again });
            if !again {
                return;
            }
            if began.elapsed() > LONG_RUN || ordered {
                (pause, first) = (FIRST_PAUSE, true);
            }
            // The first restart is at once.
            if !std::mem::take(&mut first) {
                let message = format!("back-off {pause:?} restarting failed container");
                self.tell(Event::Waiting {
                    reason: "CrashLoopBackOff",
                    message,
                });
                tokio::select! {
                    () = sleep(pause) => {}
                    () = ended(&mut self.ending) => return,
                    _ = self.orders.recv() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        match fs::remove_file(stage::started_file(&self.file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::write(&self.file, serde_json::to_vec(&self.spec)?)?;
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = tokio::process::Command::from(stage::command("__run", &self.file));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn()
    }

    /// Stays with a running container until it ends. Tells its exit code, and whether a person or
    /// a probe asked for its end.
    async fn attend(&mut self, child: &mut Child) -> (i32, bool) {
        let Some(pid) = child.id() else {
            return (128, false);
        };
        let mut ending = self.ending.clone();
        let marker = stage::started_file(&self.file);
        tokio::select! {
            status = child.wait() => return (exit_code(status), false),
            () = ended(&mut ending) => return (end(child, pid, Duration::ZERO).await, false),
            () = appeared(&marker) => {}
        }
        self.tell(Event::Running { pid });
        let (unhealthy, mut sick) = mpsc::unbounded_channel();
        let probes = self.probe(pid, &unhealthy);
        let outcome = tokio::select! {
            status = child.wait() => (exit_code(status), false),
            () = ended(&mut ending) => (self.end(child, pid).await, false),
            _ = sick.recv() => (end(child, pid, self.grace).await, true),
            order = self.orders.recv() => match order {
                Some(Order::Restart) => (end(child, pid, self.grace).await, true),
                Some(Order::Kill) | None => (end(child, pid, Duration::ZERO).await, false),
            },
        };
        drop(probes);
        self.tell(Event::Ready(false));
        outcome
    }

    async fn end(&self, child: &mut Child, pid: u32) -> i32 {
        let grace = self.asked.get().copied().unwrap_or(self.grace);
        if let Some(argv) = self.pre_stop() {
            let place = self.place(pid);
            if let Ok(command) = exec::command(&place, argv) {
                let mut command = tokio::process::Command::from(command);
                command.stdin(Stdio::null()).kill_on_drop(true);
                let ended = timeout(grace, command.status()).await;
                tracing::debug!(container = %self.container.name, ?ended, "preStop");
            }
        }
        end(child, pid, grace).await
    }

    fn pre_stop(&self) -> Option<&[String]> {
        let hook = self.container.lifecycle.as_ref()?.pre_stop.as_ref()?;
        hook.exec.as_ref()?.command.as_deref()
    }

    fn place(&self, pid: u32) -> Place {
        Place {
            target: Target::Container(pid),
            env: self.spec.env.clone(),
            cwd: self.spec.cwd.clone(),
        }
    }

    /// Starts the probes of this run; they end when what is returned is dropped.
    fn probe(&self, pid: u32, unhealthy: &mpsc::UnboundedSender<()>) -> tokio::task::JoinSet<()> {
        let mut running = tokio::task::JoinSet::new();
        let prober = |name: &str| {
            let mut prober = self.probers.get(name).cloned()?;
            prober.place = self.place(pid);
            Some(prober)
        };
        let (startup, readiness, liveness) =
            (prober("startup"), prober("readiness"), prober("liveness"));
        let (events, index, unhealthy) = (self.events.clone(), self.index, unhealthy.clone());
        running.spawn(async move {
            if let Some(startup) = startup {
                let (report, mut results) = mpsc::unbounded_channel();
                let watching = startup.run(Purpose::Startup, move |good| {
                    let _ = report.send(good);
                });
                let good = tokio::select! {
                    () = watching => false,
                    result = results.recv() => result == Some(true),
                };
                if !good {
                    // The receiver goes with the run that it is about.
                    let _ = unhealthy.send(());
                    return;
                }
            }
            let ready = async {
                let report = |good| {
                    let _ = events.send((index, Event::Ready(good)));
                };
                match readiness {
                    Some(readiness) => readiness.run(Purpose::Readiness, report).await,
                    None => report(true),
                }
            };
            let alive = async {
                let report = |good: bool| {
                    if !good {
                        let _ = unhealthy.send(());
                    }
                };
                if let Some(liveness) = liveness {
                    liveness.run(Purpose::Liveness, report).await;
                }
            };
            tokio::join!(ready, alive);
        });
        running
    }

    fn tell(&self, event: Event) {
        // The pod's task outlives its containers'; when it is gone nobody needs to know.
        let _ = self.events.send((self.index, event));
    }
}

/// Waits for the end of the pod.
pub(super) async fn ended(ending: &mut watch::Receiver<bool>) {
    // The sender goes last of all: its end is the end as well.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Waits until a file is there, which the stages before the program make in a few milliseconds.
async fn appeared(file: &Path) {
    while !file.exists() {
        sleep(STARTING).await;
    }
}

/// Ends a container: asks, waits for `grace`, then takes every process of it.
async fn end(child: &mut Child, pid: u32, grace: Duration) -> i32 {
    let outer = Pid::from_raw(pid.cast_signed());
    if !grace.is_zero() {
        let _ = kill(outer, Signal::SIGTERM);
        if let Ok(status) = timeout(grace, child.wait()).await {
            return exit_code(status);
        }
    }
    // Process 1 of the container takes the others along before the outer stage sees its end. Where
    // it does not exist yet there is nothing to take.
    let _ = kill(first_child(pid).unwrap_or(outer), Signal::SIGKILL);
    exit_code(child.wait().await)
}

fn first_child(pid: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let first = children.split_whitespace().next()?.parse().ok()?;
    Some(Pid::from_raw(first))
}

fn exit_code(status: io::Result<ExitStatus>) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(_) => 128,
    }
}
