//! Whether a caller may go on being told what the mesh is. A stream lasts for weeks; a machine may lose its entry or its certificate
//! before that. What anybody else has shown is good for the stream that it was shown for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_net::tls::Chain;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::ca::{Signing, machine};
use crate::engine::State;
use crate::tls::Peer;
use crate::tokens::{Caller, Callers};

/// A certificate is looked at at least this often: clocks are set.
const LOOK: Duration = Duration::from_secs(60);

/// By what a caller is of the mesh.
pub(super) struct Standing {
    caller: Caller,
    shown: Option<Shown>,
    callers: Arc<Callers>,
    state: Arc<State>,
}

/// What a machine has shown, and who judges that.
struct Shown {
    chain: Chain,
    authority: Signing,
    /// When it is looked at again.
    due: Instant,
}

impl Standing {
    /// A caller that was let in, as what it has shown makes it.
    ///
    /// # Errors
    /// It is a machine that is not of the mesh.
    pub(super) fn of(
        caller: Caller,
        peer: Option<&Peer>,
        callers: Arc<Callers>,
        state: Arc<State>,
    ) -> Result<Self, Status> {
        let chain = peer.and_then(|peer| peer.shown.clone());
        let shown = match (&caller.entry, chain, callers.authority.clone()) {
            (Some(_), Some(chain), Some(authority)) => Some(Shown {
                due: due(&chain),
                chain,
                authority,
            }),
            _ => None,
        };
        let standing = Self {
            caller,
            shown,
            callers,
            state,
        };
        standing.has_its_entry()?;
        Ok(standing)
    }

    pub(super) fn is_a_machine(&self) -> bool {
        self.caller.entry.is_some()
    }

    /// Looks whether the entry of a machine is there, with its service account. What anybody does in the mesh may end that.
    pub(super) fn has_its_entry(&self) -> Result<(), Status> {
        match machine::of(&self.caller, None, &self.state.index()) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Status::permission_denied(refusal.to_string())),
        }
    }

    /// Waits until what a machine has shown proves nothing any more: it has expired or was revoked, or its root is not trusted.
    pub(super) async fn ended(&mut self) -> Status {
        let Some(shown) = &mut self.shown else {
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                () = sleep_until(shown.due) => {}
                // Without whoever writes it nothing is signed any more, and the process is about to end.
                result = shown.authority.changed() => if result.is_err() {
                    return Status::unavailable("the control plane is stopping");
                },
            }
            if let Err(error) = self.callers.certified(&shown.authority, &shown.chain) {
                return error.into();
            }
            shown.due = due(&shown.chain);
        }
    }
}

/// When a certificate that is good now is looked at again: once it has ended, or before that.
fn due(chain: &Chain) -> Instant {
    let left = chain
        .not_after()
        .map(|end| end.duration_since(SystemTime::now()));
    let left = left.and_then(Result::ok).unwrap_or_default();
    // It is good in the second in which it ends.
    Instant::now() + (left + Duration::from_secs(1)).min(LOOK)
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
