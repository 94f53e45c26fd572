//! The machine that this process runs on, in place of a node's pods: nobody announces it, and nobody writes its redirection but this.
//!
//! Its listeners open, then its traffic is captured, and goes on once discovery has described the same workload. What ends in order
//! releases it; what is killed leaves it captured, so nothing gets out that nobody judges, and the next process takes it over.

use std::io;
use std::pin::pin;
use std::time::Duration;

use ambit_net::sys::Netns;
use tokio::time::{MissedTickBehavior, interval};

use super::{Announced, Manager, State, Surroundings};
use crate::capture::{self, Options};

/// The name of the one workload there is.
const UID: &str = "machine";
/// How often it is looked whether the redirection is still there: a firewall that is loaded again takes it away.
const LOOK: Duration = Duration::from_secs(5);

/// The machine, and what of its traffic is captured.
#[derive(Debug)]
pub struct Machine {
    announced: Announced,
    options: Options,
}

/// Releases the traffic of this process's network namespace, which another process has captured.
///
/// # Errors
/// This process may not, or the kernel refuses.
pub fn release() -> Result<(), Error> {
    let netns = Netns::current().map_err(Error::Network)?;
    Ok(capture::remove(&netns)?)
}

/// Why a machine is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its network cannot be told.
    #[error("cannot tell which network this machine has: {0}")]
    Network(io::Error),
    /// This process may not capture.
    #[error(
        "PROXY_MODE=dedicated captures this machine's traffic, for which ztunnel needs the capability CAP_NET_ADMIN in its network \
         namespace (in a systemd unit: AmbientCapabilities=CAP_NET_ADMIN)"
    )]
    Capability,
    /// Its listeners cannot be opened.
    #[error("{0}")]
    Listen(String),
    /// The kernel does not redirect.
    #[error(transparent)]
    Capture(capture::Error),
}

impl From<capture::Error> for Error {
    fn from(error: capture::Error) -> Self {
        match error.is_forbidden() {
            true => Self::Capability,
            false => Self::Capture(error),
        }
    }
}

impl Machine {
    /// The machine of this process's network namespace, as `announced` in it.
    ///
    /// # Errors
    /// This process cannot capture its traffic.
    pub fn new(
        announced: impl FnOnce(Netns) -> Announced,
        options: Options,
    ) -> Result<Self, Error> {
        let netns = Netns::current().map_err(Error::Network)?;
        // Who may not write the packet filter may not read it either.
        capture::verify(&netns, &options)?;
        Ok(Self {
            announced: announced(netns),
            options,
        })
    }

    /// Serves it until `end`, by the manager. Nothing new is captured then, if the kernel takes that: if it does not, what is
    /// captured goes on to come to listeners that are about to close, until it is released.
    ///
    /// # Errors
    /// It cannot be served.
    pub async fn serve(
        &self,
        manager: &mut Manager,
        surroundings: Surroundings,
        end: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Surroundings {
            mut changed,
            mut synced,
            ready,
            summaries,
        } = surroundings;
        manager.announcement();
        manager
            .add(UID, self.announced.clone())
            .map_err(Error::Listen)?;
        self.capture()?;
        let workload = self.announced.key();
        tracing::info!(workload, exclusions = ?self.options.exclusions, "this machine's traffic is captured");
        let mut ready = Some(ready);
        let mut is_synced = false;
        let mut end = pin!(end);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut end => break,
                () = &mut synced, if !is_synced => is_synced = true,
                Ok(()) = changed.changed() => {}
                _ = look.tick() => self.look(),
            }
            manager.try_waiting();
            let all = manager.summaries();
            let is_served = all.iter().all(|it| it.state == State::Serving);
            summaries.send_replace(all);
            if is_synced && is_served {
                ready.take();
            }
        }
        if let Err(error) = capture::yield_traffic(&self.announced.netns) {
            tracing::error!(%error, "new connections of this machine are captured until it is released");
        }
        Ok(())
    }

    /// Releases its traffic.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&self) -> Result<(), Error> {
        capture::remove(&self.announced.netns)?;
        tracing::info!("this machine's traffic is captured no longer");
        Ok(())
    }

    fn capture(&self) -> Result<(), Error> {
        Ok(capture::apply(&self.announced.netns, &self.options)?)
    }

    fn look(&self) {
        let missing = match capture::verify(&self.announced.netns, &self.options) {
            Ok(missing) if missing.is_empty() => return,
            Ok(missing) => missing.join("; "),
            Err(error) => error.to_string(),
        };
        match self.capture() {
            Ok(()) => tracing::warn!(
                missing,
                "the redirection of this machine's traffic was gone, and is there again"
            ),
            Err(error) => {
                tracing::error!(missing, %error, "this machine's traffic is not captured")
            }
        }
    }
}
