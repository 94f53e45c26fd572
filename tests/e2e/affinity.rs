//! `sessionAffinity: ClientIP`: a client address stays at an endpoint while it is ready.

use std::collections::BTreeMap;

use ambit_lab::harness::Lab;

use crate::fixtures::{AMBIENT, client, echo, namespace, service, text};
use crate::flows::start;

/// So many that all of them at one server is no chance to think of: one in 59,049.
const CLIENTS: usize = 12;

/// The server of each client, which it has in every of four connections.
fn homes(lab: &Lab) -> BTreeMap<String, String> {
    let home = |number| {
        let client = format!("shop/client-{number}");
        let server = || text(&lab.get(&client, "http://echo/")["hostname"]);
        let home = server();
        for _ in 0..3 {
            assert_eq!(server(), home, "{client}");
        }
        (client, home)
    };
    (0..CLIENTS).map(home).collect()
}

#[test]
fn a_client_stays_and_only_those_of_an_endpoint_that_goes_move() {
    let node = |number: usize| format!("node-{}", 1 + number % 2);
    let mut manifests = namespace("shop", AMBIENT);
    for number in 0..3 {
        manifests += &echo("shop", &format!("echo-{number}"), &node(number));
    }
    for number in 0..CLIENTS {
        manifests += &client("shop", &format!("client-{number}"), &node(number));
    }
    let stays = "spec: {sessionAffinity: ClientIP, ";
    manifests += &service("shop", "echo", "app: echo").replace("spec: {", stays);
    let lab = start(manifests, &[]);

    let before = homes(&lab);
    let leaving = before["shop/client-0"].clone();
    assert!(before.values().any(|home| *home != leaving), "{before:?}");
    let _ = lab.run(["delete", "-n", "shop", "pod", &leaving]).success();
    let after = homes(&lab);
    for (client, home) in &before {
        if *home == leaving {
            assert_ne!(after[client], leaving, "{client}");
        } else {
            assert_eq!(after[client], *home, "{client}");
        }
    }
    // A pod of that name is the same endpoint, as that of a StatefulSet is.
    lab.apply(&echo("shop", &leaving, "node-1"));
    assert_eq!(homes(&lab), before);
}
