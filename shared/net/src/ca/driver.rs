//! Obtains and renews what the store wants: asks the rotation what is due, has it signed, and
//! reports the outcome.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::clock::Jump;
use ambit_core::identity::Identity;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::store::{Failure, SOON, Shared};
use super::{CaError, Signer};
use crate::clock::Jumps;
use crate::tls::Certified;

/// Clocks that differ by less are right: an authority need not date back what it signs.
const SKEW: Duration = Duration::from_secs(60);

/// The half of a [`CertificateStore`](super::CertificateStore) that talks to the authority.
/// Dropping it ends issuance: certificates stay until they expire, waiting callers fail.
pub struct Driver<S> {
    shared: Arc<Shared>,
    signer: S,
}

impl<S: Signer> Driver<S> {
    pub(super) fn new(shared: Arc<Shared>, signer: S) -> Self {
        Self { shared, signer }
    }

    /// Runs until it is dropped.
    pub async fn run(self) -> Infallible {
        let mut signing = FuturesUnordered::new();
        let mut jumps = Jumps::new(self.shared.settings.clock.clone());
        loop {
            let (due, wake_at) = self.due();
            for identity in due {
                signing.push(async {
                    let result = self.signer.sign(&identity).await;
                    (identity, result)
                });
            }
            tokio::select! {
                Some((identity, result)) = signing.next(), if !signing.is_empty() => {
                    self.settle(&identity, result);
                }
                jump = jumps.next() => {
                    tracing::warn!("the clock of this machine was set {jump}: certificates are renewed by it");
                    self.clock_set(jump);
                }
                () = self.shared.wake.notified() => {}
                () = wait_until(wake_at) => {}
            }
        }
    }

    /// What is not good yet by this clock is renewed soon, for peers do not believe it: it was signed by a clock that was ahead.
    fn clock_set(&self, jump: Jump) {
        let (now, wall) = (Instant::now().into_std(), (self.shared.settings.clock)());
        let serving = self.shared.serving.load();
        let is_early = |identity: &Identity| {
            let certified = serving.get(identity);
            certified.is_some_and(|it| it.not_before() > wall + SKEW)
        };
        let mut desk = self.shared.desk.lock();
        desk.rotation.clock_set(jump, now);
        desk.rotation
            .renew(is_early, now, SOON, rand::random::<f64>);
    }

    /// What is to be signed now, and when to look again if nothing else happens.
    fn due(&self) -> (Vec<Identity>, Option<Instant>) {
        let mut desk = self.shared.desk.lock();
        let now = Instant::now().into_std();
        let due = std::iter::from_fn(|| desk.rotation.poll(now)).collect();
        (due, desk.rotation.poll_timeout().map(Instant::from_std))
    }

    fn settle(&self, identity: &Identity, result: Result<Certified, CaError>) {
        let now = Instant::now();
        let jitter = rand::random::<f64>();
        let mut desk = self.shared.desk.lock();
        let outlasts = |ahead| desk.rotation.outlasts(identity, ahead, now.into_std());
        match result.and_then(|certified| self.remaining(certified, outlasts)) {
            Ok((certified, remaining)) => {
                let renew_at = desk
                    .rotation
                    .issued(identity, remaining, now.into_std(), jitter);
                let (Some(_), Some(seat)) = (renew_at, desk.seats.get(identity)) else {
                    return;
                };
                tracing::debug!(%identity, serial = certified.serial(), ?remaining, "certificate issued");
                let settings = &self.shared.settings;
                let certified = certified
                    .within(settings.trust_domains.clone())
                    .refusing(settings.revocations.clone())
                    .by(settings.clock.clone());
                self.shared.change(|serving| {
                    serving.insert(identity.clone(), Arc::new(certified));
                });
                seat.attempts.send_replace(None);
                self.shared.renewals.send_modify(|count| *count += 1);
            }
            Err(error) => {
                let retry_at = desk.rotation.failed(identity, now.into_std(), jitter);
                let (Some(retry_at), Some(seat)) = (retry_at, desk.seats.get(identity)) else {
                    return;
                };
                let retry_at = Instant::from_std(retry_at);
                let wait = retry_at.saturating_duration_since(now);
                tracing::warn!(%identity, %error, retry_in = ?wait, "no new certificate");
                seat.attempts
                    .send_replace(Some(Failure { error, retry_at }));
            }
        }
    }

    /// A certificate with the time it is still good for. One that is good only in a while is not taken if `outlasts` says that
    /// the one there is lasts longer than that: either this clock is behind, or that of who signed is ahead, and then peers do
    /// not believe it yet.
    fn remaining(
        &self,
        certified: Certified,
        outlasts: impl FnOnce(Duration) -> bool,
    ) -> Result<(Certified, Duration), CaError> {
        let now = (self.shared.settings.clock)();
        if let Ok(ahead) = certified.not_before().duration_since(now)
            && ahead > SKEW
            && outlasts(ahead)
        {
            return Err(CaError::Early {
                identity: certified.identity().clone(),
                ahead,
            });
        }
        match certified.not_after().duration_since(now) {
            Ok(remaining) if !remaining.is_zero() => Ok((certified, remaining)),
            _ => Err(CaError::Expired {
                identity: certified.identity().clone(),
            }),
        }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        let mut desk = self.shared.desk.lock();
        desk.stopped = true;
        for seat in desk.seats.values() {
            // Whoever waits looks up.
            seat.attempts.send_modify(|_| {});
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
