//! The two directions of a relay, and how long one may outlive the other.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::timeout;

use super::{Counters, Error};

/// Runs both directions to their ends. When one has ended the connection is half closed, and is given up once the
/// other has moved nothing for `limit`: for twice that at most, since it is looked at once a `limit`. Until then no
/// clock runs.
pub(super) async fn both(
    up: Pin<&mut impl Future<Output = Result<(), Error>>>,
    down: Pin<&mut impl Future<Output = Result<(), Error>>>,
    counters: &Counters,
    limit: Duration,
) -> Result<(), Error> {
    match select(up, down).await {
        Either::Left((ended, down)) => {
            ended?;
            while_it_moves(down, || counters.received(), limit).await
        }
        Either::Right((ended, up)) => {
            ended?;
            while_it_moves(up, || counters.sent(), limit).await
        }
    }
}

async fn while_it_moves(
    mut direction: Pin<&mut impl Future<Output = Result<(), Error>>>,
    moved: impl Fn() -> u64,
    limit: Duration,
) -> Result<(), Error> {
    loop {
        let before = moved();
        match timeout(limit, direction.as_mut()).await {
            Ok(ended) => return ended,
            Err(_) if moved() == before => return Err(Error::HalfClosed(limit)),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_connection_without_traffic_is_given_up() {
        let started = Instant::now();
        for ended_is_up in [true, false] {
            let (ended, open) = (pin!(ready(Ok(()))), pin!(pending()));
            let counters = Counters::default();
            let result = if ended_is_up {
                both(ended, open, &counters, LIMIT).await
            } else {
                both(open, ended, &counters, LIMIT).await
            };
            assert!(
                matches!(result, Err(Error::HalfClosed(LIMIT))),
                "{result:?}"
            );
        }
        assert_eq!(started.elapsed(), LIMIT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_connection_with_traffic_goes_on() {
        let counters = Counters::default();
        let trickle = async {
            for _ in 0..10 {
                sleep(LIMIT * 9 / 10).await;
                counters.add_received(1);
            }
            Ok(())
        };
        let result = both(pin!(ready(Ok(()))), pin!(trickle), &counters, LIMIT).await;
        result.expect("it ended by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_that_is_open_both_ways_has_no_limit() {
        let (up, down) = (pin!(pending()), pin!(pending()));
        let counters = Counters::default();
        let idle = both(up, down, &counters, LIMIT);
        timeout(LIMIT * 1000, idle).await.expect_err("it goes on");
    }
}
