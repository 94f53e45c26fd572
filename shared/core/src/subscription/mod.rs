//! The client's half of one delta-xDS type: what to send, what is held.
//!
//! Sans-IO: the driver sends the [`Request`]s that come out and feeds what arrives; `now` is an
//! argument. One [`Subscription`] outlives many streams, so that a reconnect asks only for what
//! changed in between.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to send, for one type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The type.
    pub type_url: Arc<str>,
    /// Names to subscribe to. Empty in the first request of a stream means: everything.
    pub subscribe: Vec<Arc<str>>,
    /// Names to unsubscribe from.
    pub unsubscribe: Vec<Arc<str>>,
    /// First request of a stream only: what is held, name to version.
    pub initial_versions: HashMap<Arc<str>, Arc<str>>,
    /// The response this answers; empty in the first request.
    pub nonce: Arc<str>,
    /// Why the response (or a part of it) was not taken in.
    pub error: Option<String>,
}

/// What a response is about; its bodies are the driver's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// To be answered with.
    pub nonce: Arc<str>,
    /// Names and versions of resources that are new or different.
    pub resources: Vec<(Arc<str>, Arc<str>)>,
    /// Names of resources that are gone.
    pub removed: Vec<Arc<str>>,
}

/// A resource that could not be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its name.
    pub name: Arc<str>,
    /// What is wrong with it.
    pub reason: String,
}

/// One wildcard subscription to one type.
#[derive(Debug, Clone)]
pub struct Subscription {
    type_url: Arc<str>,
    versions: HashMap<Arc<str>, Arc<str>>,
    synced: bool,
    connected: bool,
    fresh_at: Option<Instant>,
}

/// The version of a resource whose content was rejected: equal to no real one, so a reconnect
/// brings it again, and yet named, so that its removal is told.
const REJECTED: &str = "";

/// Longest error text sent to the server.
const MAX_ERROR: usize = 4096;

impl Subscription {
    /// Nothing held, not connected.
    #[must_use]
    pub fn new(type_url: impl Into<Arc<str>>) -> Self {
        Self {
            type_url: type_url.into(),
            versions: HashMap::new(),
            synced: false,
            connected: false,
            fresh_at: None,
        }
    }

    /// Starts from what a snapshot held, name to version.
    pub fn restore(&mut self, versions: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) {
        self.versions.extend(versions);
    }

    /// The type it is for.
    #[must_use]
    pub fn type_url(&self) -> &Arc<str> {
        &self.type_url
    }

    /// A stream is open: the first request to send on it.
    pub fn on_connect(&mut self) -> Request {
        self.connected = true;
        Request {
            type_url: self.type_url.clone(),
            initial_versions: self.versions.clone(),
            ..Request::default()
        }
    }

    /// A response has been applied, except for what was rejected: the ACK or NACK to send.
    pub fn on_response(
        &mut self,
        response: Response,
        rejected: &[Rejection],
        now: Instant,
    ) -> Request {
        for (name, version) in response.resources {
            let known = rejected.iter().any(|rejection| rejection.name == name);
            let version = if known { REJECTED.into() } else { version };
            self.versions.insert(name, version);
        }
        for name in &response.removed {
            self.versions.remove(name);
        }
        // A rejected resource does not hold up the others, nor readiness.
        self.synced = true;
        self.fresh_at = Some(now);
        Request {
            type_url: self.type_url.clone(),
            nonce: response.nonce,
            error: describe(rejected),
            ..Request::default()
        }
    }

    /// A response could not be read at all: the NACK to send. Nothing changes.
    #[must_use]
    pub fn on_unreadable(&self, nonce: Arc<str>, reason: &str) -> Request {
        Request {
            type_url: self.type_url.clone(),
            nonce,
            error: Some(clipped(reason)),
            ..Request::default()
        }
    }

    /// The stream ended. What is held stays held.
    pub fn on_disconnect(&mut self, now: Instant) {
        if self.connected && self.synced {
            // While the stream stood, silence meant that nothing changed.
            self.fresh_at = Some(now);
        }
        self.connected = false;
    }

    /// Whether the first response of any stream has been applied.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Whether a stream is open.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// How long ago the state was last known to be current; zero while connected, `None` before
    /// the first response.
    #[must_use]
    pub fn state_age(&self, now: Instant) -> Option<Duration> {
        let fresh_at = self.fresh_at?;
        Some(if self.connected {
            Duration::ZERO
        } else {
            now.saturating_duration_since(fresh_at)
        })
    }

    /// What is held: name and version.
    pub fn versions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.versions.iter()
    }
}

/// All rejections in one text, each with its name.
fn describe(rejected: &[Rejection]) -> Option<String> {
    if rejected.is_empty() {
        return None;
    }
    let lines: Vec<String> = rejected
        .iter()
        .map(|rejection| format!("{}: {}", rejection.name, rejection.reason))
        .collect();
    Some(clipped(&lines.join("; ")))
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
