//! A process of the mesh that is watched: started again with growing pauses when it ends, killed and
//! restarted on demand.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::kubelet::Order;
use crate::stage::{self, RunSpec};

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

/// A watched process.
#[derive(Debug)]
pub struct Component {
    status: Arc<Mutex<ComponentStatus>>,
    orders: mpsc::UnboundedSender<Order>,
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

impl Component {
    /// Starts a component and keeps it running.
    #[must_use]
    pub fn start(recipe: Recipe) -> Self {
        let status = ComponentStatus {
            name: recipe.name.clone(),
            ..ComponentStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        let (orders, receiver) = mpsc::unbounded_channel();
        let keeper = Keeper {
            recipe,
            status: Arc::clone(&status),
            orders: receiver,
        };
        tokio::spawn(keeper.keep());
        Self { status, orders }
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> ComponentStatus {
        self.status.lock().clone()
    }

    /// Kills or restarts it.
    pub fn order(&self, order: Order) {
        // The keeper lives as long as the lab.
        let _ = self.orders.send(order);
    }
}

struct Keeper {
    recipe: Recipe,
    status: Arc<Mutex<ComponentStatus>>,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let (end, ordered) = match self.start() {
                Ok(mut child) => self.attend(&mut child).await,
                Err(error) => (error.to_string(), false),
            };
            tracing::warn!(component = %self.recipe.name, %end, "a component ended");
            {
                let mut status = self.status.lock();
                status.pid = None;
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

    async fn attend(&mut self, child: &mut Child) -> (String, bool) {
        let words = |status: io::Result<std::process::ExitStatus>| match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let order = tokio::select! {
            status = child.wait() => return (words(status), false),
            order = self.orders.recv() => order,
        };
        if let (Some(Order::Restart), Some(pid)) = (order, child.id()) {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            if let Ok(status) = timeout(GRACE, child.wait()).await {
                return (words(status), true);
            }
        }
        let _ = child.start_kill();
        (words(child.wait().await), true)
    }
}
