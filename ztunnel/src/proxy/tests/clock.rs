//! A machine whose clock is set.

use super::*;
use crate::testing::run_within;

const DAY: i64 = 24 * 3600;
/// Longer than until somebody looks at the clock, and longer than until certificates are renewed by it after that.
const LOOK: Duration = Duration::from_secs(6);

#[test]
fn a_clock_that_is_set_breaks_no_stream_and_new_connections_come_with_new_certificates() {
    run_within(Duration::from_secs(100), async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let (app, _called) = echo(SERVER).await;
        let mut running = dial(&client, app).await;
        let mut word = [0; 2];
        let gone = [SERVER.parse().expect("an address")];
        let wanted = client.pod.identity().expect("identified").clone();
        let mut shown = Vec::new();
        for (case, ahead) in [
            ("as it is", 0),
            ("a day on", DAY),
            ("back again", 0),
            ("a day back", -DAY),
            ("right at last", 0),
        ] {
            world.clock.set(ahead);
            // Nobody waits for real: looks at the clock are made by one that can be put forward.
            for _ in 0..2 {
                tokio::time::pause();
                tokio::time::advance(LOOK).await;
                tokio::time::resume();
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
            let renewed = async {
                loop {
                    let certified = wanted.get().await.expect("a certificate");
                    if certified.not_before() <= certified.now() {
                        return certified;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let serial = renewed.await.serial().to_owned();
            running.write_all(b"on").await.expect("sent");
            running.read_exact(&mut word).await.expect("it runs");
            // By a connection of its own, and by whatever there is.
            world.shared.evict(&gone);
            for _ in 0..2 {
                let back = exchange(dial(&client, app).await, "hello").await;
                assert_eq!(back.expect(case), "hello", "{case}");
            }
            shown.push(serial);
        }
        assert_eq!(exchange(running, "end").await.expect("to the end"), "end");
        let [first, later, back, before, last] = &shown[..] else {
            panic!("{shown:?}");
        };
        assert_ne!(first, later, "the first one has expired");
        assert_ne!(later, back, "the second is good in a day");
        assert_ne!(back, before, "so is the third");
        assert_ne!(before, last, "the fourth has expired");
        let log = world.logged(22).await;
        assert!(
            log.iter().all(|line| line.get("error").is_none()),
            "{log:?}"
        );
    });
}
