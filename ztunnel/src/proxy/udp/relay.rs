//! Datagrams between the two ends of a flow, until there have been none for a while.

use std::pin::pin;
use std::time::Duration;

use ambit_net::relay::{Counters, Error};
use tokio::time::{Instant, sleep};

use super::end::End;

/// Joins two ends. `None` ends it in order: the other end is told.
///
/// # Errors
/// One of the ends has failed; a tunnel at the other end is reset.
pub(super) async fn relay(
    mut near: End,
    mut far: End,
    counters: &Counters,
    idle: Duration,
) -> Result<(), Error> {
    let mut over = pin!(sleep(idle));
    loop {
        // What is there at once costs nothing of its own: a flow is not to stop the worker.
        tokio::task::consume_budget().await;
        let (payload, to_far) = tokio::select! {
            payload = near.receive() => (payload?, true),
            payload = far.receive() => (payload?, false),
            () = &mut over => (None, false),
        };
        let Some(payload) = payload else {
            near.finish();
            far.finish();
            return Ok(());
        };
        over.as_mut().reset(Instant::now() + idle);
        let other = if to_far { &mut far } else { &mut near };
        match other.send(&payload)? {
            Ok(()) if to_far => counters.add_sent(payload.len()),
            Ok(()) => counters.add_received(payload.len()),
            Err(lost) => lost.count(),
        }
    }
}
