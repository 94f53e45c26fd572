//! A process of the mesh that is watched: started again with growing pauses when it ends, killed and
//! restarted on demand.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::component_log;
use crate::cluster::Cluster;
use crate::kubelet::Order;
use crate::stage::{self, Mount, RunSpec};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A run of this length forgives the failures before it.
const LONG_RUN: Duration = Duration::from_secs(10);
/// How long a component may take to end in order.
const GRACE: Duration = Duration::from_secs(15);

/// How a component is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Its name, as `lab logs` takes it.
    pub name: String,
    /// Its process, when it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_end: Option<String>,
}

/// Where components run that have files of their own: a node, a machine beside the nodes, or the lab for the control plane.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) netns: &'a Path,
    /// Their working folder, and where what they are run from is kept.
    pub(super) folder: &'a Path,
    pub(super) mounts: &'a [Mount],
}

/// A watched process.
#[derive(Debug)]
pub struct Component {
    status: Arc<Mutex<ComponentStatus>>,
    recipe: Mutex<Recipe>,
    commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    Order(Order),
    Stop(oneshot::Sender<()>),
    Replace(Box<Replacement>),
}

/// Another process in the place of the one that runs.
#[derive(Debug)]
struct Replacement {
    recipe: Recipe,
    /// Said when it serves; without it the earlier one ends first.
    serves: Option<oneshot::Receiver<()>>,
    /// Told when the earlier one has ended.
    done: oneshot::Sender<()>,
}

/// What a component is started from.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name, as `lab logs` takes it.
    pub name: String,
    /// What is run, and where.
    pub spec: RunSpec,
    /// Where the description for the next stage is written.
    pub file: PathBuf,
    /// Where it logs to.
    pub log: PathBuf,
}

impl Recipe {
    /// `what` runs as `WHAT/PLACE`.
    pub(super) fn at(
        place: &Place<'_>,
        what: &str,
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        cluster: &Cluster,
    ) -> Self {
        let name = format!("{what}/{}", place.name);
        Self {
            log: component_log(&cluster.state.logs(), &name),
            name,
            spec: RunSpec {
                netns: place.netns.to_owned(),
                hostname: Some(place.name.to_owned()),
                mounts: place.mounts.to_vec(),
                scratch: place.folder.join(format!("{what}.view")),
                cwd: place.folder.to_owned(),
                argv,
                env,
                uid: None,
                gid: None,
                own_processes: false,
                mode: cluster.mode,
            },
            file: place.folder.join(format!("{what}.json")),
        }
    }
}

impl Component {
    /// Starts a component and keeps it running.
    #[must_use]
    pub fn start(recipe: Recipe) -> Self {
        Self::new(recipe, true)
    }

    /// One that does not run before it is replaced.
    #[must_use]
    pub fn idle(recipe: Recipe) -> Self {
        Self::new(recipe, false)
    }

    fn new(recipe: Recipe, runs: bool) -> Self {
        let status = ComponentStatus {
            name: recipe.name.clone(),
            ..ComponentStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        let (commands, receiver) = mpsc::unbounded_channel();
        let keeper = Keeper {
            recipe: recipe.clone(),
            status: Arc::clone(&status),
            commands: receiver,
            runs,
        };
        tokio::spawn(keeper.keep());
        Self {
            status,
            recipe: Mutex::new(recipe),
            commands,
        }
    }

    /// What it is started from.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        self.recipe.lock().clone()
    }

    /// Starts another in its place: before it ends, which it does when `serves` is said, or after it has ended.
    /// What is returned is told when the earlier one is gone.
    pub fn replace(
        &self,
        recipe: Recipe,
        serves: Option<oneshot::Receiver<()>>,
    ) -> oneshot::Receiver<()> {
        *self.recipe.lock() = recipe.clone();
        let (done, gone) = oneshot::channel();
        let replacement = Replacement {
            recipe,
            serves,
            done,
        };
        // The keeper lives as long as the lab.
        let _ = self.commands.send(Command::Replace(Box::new(replacement)));
        gone
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> ComponentStatus {
        self.status.lock().clone()
    }

    /// Ends it in order, for as long as nothing takes its place. What is returned is told when it has ended.
    pub fn stop(&self) -> oneshot::Receiver<()> {
        let (done, gone) = oneshot::channel();
        // The keeper lives as long as the lab.
        let _ = self.commands.send(Command::Stop(done));
        gone
    }

    /// Kills or restarts it.
    pub fn order(&self, order: Order) {
        // The keeper lives as long as the lab.
        let _ = self.commands.send(Command::Order(order));
    }
}

struct Keeper {
    recipe: Recipe,
    status: Arc<Mutex<ComponentStatus>>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Whether it is to run.
    runs: bool,
}

/// How a process ended.
struct End {
    how: String,
    ordered: bool,
    successor: Option<Child>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut successor = None;
        loop {
            while !self.runs {
                self.rest().await;
            }
            let began = Instant::now();
            let started = successor.take().map_or_else(|| self.start(), Ok);
            let ended = match started {
                Ok(child) => self.attend(child).await,
                Err(error) => End {
                    how: error.to_string(),
                    ordered: false,
                    successor: None,
                },
            };
            let End {
                how: end, ordered, ..
            } = ended;
            successor = ended.successor;
            tracing::warn!(component = %self.recipe.name, %end, "a component ended");
            {
                let mut status = self.status.lock();
                status.pid = successor.as_ref().and_then(Child::id);
                status.last_end = Some(end);
                status.restarts += 1;
            }
            if ordered || began.elapsed() > LONG_RUN {
                pause = FIRST_PAUSE;
            }
            if !ordered {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        fs::write(&self.recipe.file, serde_json::to_vec(&self.recipe.spec)?)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.recipe.log)?;
        let mut command = tokio::process::Command::from(stage::command("__run", &self.recipe.file));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn()?;
        self.status.lock().pid = child.id();
        Ok(child)
    }

    /// Takes a command while it does not run.
    async fn rest(&mut self) {
        match self.commands.recv().await {
            Some(Command::Replace(replacement)) => {
                self.recipe = replacement.recipe;
                self.runs = true;
                // Who asked may have lost patience.
                let _ = replacement.done.send(());
            }
            Some(Command::Stop(done)) => drop(done.send(())),
            Some(Command::Order(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// Until it ends, by itself or by order.
    async fn attend(&mut self, mut child: Child) -> End {
        let command = tokio::select! {
            status = child.wait() => return End {
                how: words(status),
                ordered: false,
                successor: None,
            },
            command = self.commands.recv() => command,
        };
        let mut successor = None;
        let mut done = None;
        let how = match command {
            Some(Command::Order(Order::Restart)) => end(child).await,
            Some(Command::Order(Order::Kill)) | None => kill_now(child).await,
            Some(Command::Stop(gone)) => {
                self.runs = false;
                done = Some(gone);
                end(child).await
            }
            Some(Command::Replace(replacement)) => {
                self.recipe = replacement.recipe;
                done = Some(replacement.done);
                if let Some(serves) = replacement.serves {
                    // One that does not start is started again, after the earlier one.
                    successor = self.start().ok();
                    let _ = serves.await;
                }
                end(child).await
            }
        };
        if let Some(done) = done {
            // Who asked may have lost patience.
            let _ = done.send(());
        }
        End {
            how,
            ordered: true,
            successor,
        }
    }
}

/// Ends a process in order, or at once when it takes too long.
async fn end(mut child: Child) -> String {
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        if let Ok(status) = timeout(GRACE, child.wait()).await {
            return words(status);
        }
    }
    kill_now(child).await
}

async fn kill_now(mut child: Child) -> String {
    let _ = child.start_kill();
    words(child.wait().await)
}

fn words(status: io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
