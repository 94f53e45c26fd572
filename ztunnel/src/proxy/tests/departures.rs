//! Endpoints that discovery takes away or moves.

use std::net::IpAddr;

use ambit_net::xds::{Handler, Push};
use ambit_proto::ADDRESS_TYPE;
use ambit_proxy::Departed;

use super::*;
use crate::discovery::Discovery;
use crate::testing::{described, push};

const ELSEWHERE: &str = "127.61.0.9";

fn at(addresses: &[&str]) -> Workload {
    let parsed = |ip: &&str| ip.parse::<IpAddr>().expect("an address");
    Workload {
        addresses: addresses.iter().map(parsed).collect(),
        ..workload("server", SERVER)
    }
}

/// How many connections a client keeps for new tunnels to a server of which discovery says this. What runs
/// goes on.
async fn kept_after(before: &Workload, said: Push) -> usize {
    let world = World::new();
    let (mut discovery, _changed) =
        Discovery::new(world.shared.clone(), Arc::new(Departed::default()));
    let client = world.serve(&workload("client", CLIENT)).await;
    let _server = world.serve(before).await;
    let (app, _called) = echo(SERVER).await;
    let mut stream = dial(&client, app).await;
    let mut word = [0; 2];
    stream.write_all(b"hi").await.expect("sent");
    stream.read_exact(&mut word).await.expect("it runs");
    assert_eq!(world.shared.pooled(), 1);
    discovery.apply(said).expect("all good");
    let kept = world.shared.pooled();
    let rest = exchange(stream, "on").await.expect("it still runs");
    assert_eq!(rest, "on");
    kept
}

#[test]
fn a_connection_to_a_removed_endpoint_takes_nothing_new_and_finishes_what_runs() {
    run(async || {
        let server = at(&[SERVER]);
        let gone = push(ADDRESS_TYPE, vec![], &[&server.uid]);
        assert_eq!(kept_after(&server, gone).await, 0);
    });
}

#[test]
fn a_connection_to_an_address_that_an_endpoint_left_takes_nothing_new() {
    run(async || {
        let moved = push(ADDRESS_TYPE, vec![described(&at(&[ELSEWHERE]))], &[]);
        assert_eq!(kept_after(&at(&[SERVER]), moved).await, 0);
    });
}

#[test]
fn a_connection_to_an_address_that_an_endpoint_keeps_is_kept() {
    run(async || {
        let fewer = push(ADDRESS_TYPE, vec![described(&at(&[SERVER]))], &[]);
        assert_eq!(kept_after(&at(&[SERVER, ELSEWHERE]), fewer).await, 1);
    });
}
