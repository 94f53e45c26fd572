//! How fresh what we know is: for readiness, metrics and the admin page.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A view of a running [`Client`](super::Client); cheap to clone.
#[derive(Debug, Clone)]
pub struct Status(watch::Receiver<State>);

/// What is known about the subscription.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The control plane has accepted a stream that is still up.
    pub connected: bool,
    /// Every type was answered once since the start, or the state of an earlier process was taken over;
    /// never false again. A rejected answer counts.
    pub synced: bool,
    /// When the last stream ended; None before the first one did.
    pub disconnected_at: Option<Instant>,
    /// Why the last attempt or stream ended.
    pub last_error: Option<String>,
    /// Streams tried.
    pub attempts: u64,
    /// Pushes received.
    pub pushes: u64,
    /// Pushes of which something was rejected.
    pub nacks: u64,
    /// What the last rejection said.
    pub last_nack: Option<String>,
}

impl Status {
    /// Returns once every type was answered once. Pending forever when the client was dropped
    /// before that.
    pub async fn synced(&self) {
        if self.0.clone().wait_for(|state| state.synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether every type was answered once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.0.borrow().synced
    }

    /// How old the last good state may be: zero while connected, else the time since the stream
    /// was lost; None before the first synchronization.
    #[must_use]
    pub fn state_age(&self) -> Option<Duration> {
        let state = self.0.borrow();
        match (state.synced, state.connected, state.disconnected_at) {
            (false, _, _) => None,
            (true, true, _) | (true, false, None) => Some(Duration::ZERO),
            (true, false, Some(at)) => Some(at.elapsed()),
        }
    }

    /// Everything there is to know.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// Wakes on every change of the state.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.clone()
    }
}

/// The client's side of [`Status`].
#[derive(Debug)]
pub(super) struct Reporter(watch::Sender<State>);

impl Reporter {
    pub(super) fn new() -> (Self, Status) {
        let (sender, receiver) = watch::channel(State::default());
        (Self(sender), Status(receiver))
    }

    pub(super) fn attempt(&self) {
        self.0.send_modify(|state| state.attempts += 1);
    }

    pub(super) fn connected(&self) {
        self.0.send_modify(|state| {
            state.connected = true;
            state.last_error = None;
        });
    }

    /// The state of an earlier process, which last heard something `age` ago, is in force.
    pub(super) fn restored(&self, age: Duration) {
        self.0.send_modify(|state| {
            state.synced = true;
            state.disconnected_at = Instant::now().checked_sub(age);
        });
    }

    pub(super) fn pushed(&self, synced: bool, nack: Option<&str>) {
        self.0.send_modify(|state| {
            state.pushes += 1;
            state.synced |= synced;
            if let Some(text) = nack {
                state.nacks += 1;
                state.last_nack = Some(text.to_owned());
            }
        });
    }

    pub(super) fn ended(&self, why: String) {
        self.0.send_modify(|state| {
            if state.connected {
                state.connected = false;
                state.disconnected_at = Some(Instant::now());
            }
            state.last_error = Some(why);
        });
    }
}
