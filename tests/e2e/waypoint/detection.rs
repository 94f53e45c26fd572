//! Ports that say nothing of what is spoken there: the first bytes tell, and who says nothing is not kept waiting.

use std::time::{Duration, Instant};

use ambit_lab::harness::Lab;
use serde_json::Value;

use super::call::Call;
use super::scene::{CLIENT, lab, program_pod};
use super::told::line;

/// A pod whose server speaks first on 9100 and takes anything on 9200, behind a service that says nothing of either.
fn undeclared() -> String {
    let echo = "image: ambit/echo\n    args: [\"--port=info=9100\", \"--port=9200\", \"--port=echo=9300\"]";
    program_pod("mesh", "plain", 9200, echo)
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: plain, namespace: mesh}\nspec:\n  \
           selector: {app: plain}\n  ports:\n  - {name: a, port: 9100}\n  - {name: b, port: 9200}\n  - {name: c, port: 9300}\n"
}

/// Reads a line from a server that speaks first, without having said anything.
fn greeting(lab: &Lab) -> Value {
    let script = "exec 3<>/dev/tcp/plain.mesh/9100 && head -n 1 <&3";
    let said = lab.exec(CLIENT, &["timeout", "10", "bash", "-c", script]);
    serde_json::from_str(&said.clone().success()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let lab = lab();
    lab.apply(&undeclared());
    let started = Instant::now();
    assert!(greeting(&lab).is_object());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    let told = line(&lab, &["\"- - -\" 0 - ", "plain.mesh"]);
    assert!(told.contains("sa/client"), "{told}");
}

#[test]
fn what_is_spoken_is_told_by_the_first_bytes() {
    let lab = lab();
    lab.apply(&undeclared());
    for call in [
        Call::get(CLIENT, "plain.mesh:9200/found"),
        Call::get(CLIENT, "plain.mesh:9200/found").h2(),
    ] {
        let answer = call.answer(&lab);
        assert_eq!(answer.server(), "plain", "{answer:?}");
        assert!(
            answer.sent("x-request-id").is_some(),
            "as a request: {answer:?}"
        );
    }
    // TLS is not looked into.
    let curl = ["curl", "-sk", "--max-time", "5", "https://plain.mesh:9300/"];
    assert_ne!(
        lab.exec(CLIENT, &curl).code,
        0,
        "the server sends back what it gets"
    );
    let told = line(&lab, &["\"- - -\" 0 ", "plain.mesh"]);
    assert!(told.contains(":9300"), "{told}");
}
