//! Discovery: the client half of delta xDS (aggregated, wildcard subscriptions).
//!
//! [`Client::run`] keeps one stream to the control plane, hands every push to a [`Handler`], and
//! acknowledges or refuses it by name. What the subscription holds, what is asked and what an
//! answer means is `ambit_core::subscription`; this module connects, waits and obeys.
//!
//! It must never forget state because the control plane is gone: a lost stream is an outage of
//! news, not of the mesh. A process that cannot reach it at its start goes on with what an
//! earlier one has heard, where that is kept ([`Config::state`]).

mod client;
mod journal;
mod node;
mod status;
mod wire;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use client::Client;
pub use node::Node;
pub use status::{State, Status};

use crate::grpc::Remote;

/// What to subscribe to, where, and as whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control plane.
    pub remote: Remote,
    /// Who asks.
    pub node: Node,
    /// Type URLs, each subscribed as a wildcard.
    pub types: Vec<Arc<str>>,
    /// Largest push accepted, in bytes.
    pub max_message: usize,
    /// Longest wait for the first answer on a stream; it is given up and dialled anew then.
    pub answer_timeout: Duration,
    /// First and longest wait between two connections that failed.
    pub retry: (Duration, Duration),
    /// The folder that keeps what was heard for the next process.
    pub state: Option<PathBuf>,
}

impl Config {
    /// A configuration with the usual limits.
    #[must_use]
    pub fn new(
        remote: Remote,
        node: Node,
        types: impl IntoIterator<Item = impl Into<Arc<str>>>,
    ) -> Self {
        Self {
            remote,
            node,
            types: types.into_iter().map(Into::into).collect(),
            max_message: 200 * 1024 * 1024,
            answer_timeout: Duration::from_secs(60),
            retry: (Duration::from_millis(100), Duration::from_secs(15)),
            state: None,
        }
    }
}

/// Takes what the control plane pushes.
///
/// Everything in a push that is not rejected is in force when `apply` returns; it is never
/// called again for the same push.
pub trait Handler: Send {
    /// Applies one push.
    ///
    /// # Errors
    /// The resources that were not applied, each with the reason; the control plane is told.
    fn apply(&mut self, push: Push) -> Result<(), Vec<Rejection>>;
}

impl<F: FnMut(Push) -> Result<(), Vec<Rejection>> + Send> Handler for F {
    fn apply(&mut self, push: Push) -> Result<(), Vec<Rejection>> {
        self(push)
    }
}

/// One message of the control plane: what changed and what is gone, of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The type of all resources in it.
    pub type_url: Arc<str>,
    /// New and changed resources.
    pub resources: Vec<Resource>,
    /// Names of resources that are gone.
    pub removed: Vec<String>,
    /// No other piece of the same state follows.
    pub complete: bool,
}

/// One resource, still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name, unique within the type.
    pub name: String,
    /// Opaque version.
    pub version: String,
    /// The encoded message, without its `Any` wrapper.
    pub body: Bytes,
}

/// A resource that was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its name.
    pub name: String,
    /// Why, in words that its author can act on.
    pub reason: String,
}
