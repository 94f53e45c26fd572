//! Rate limits and injected faults: what a waypoint answers by itself.

use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually};

use super::call::{Answer, Call};
use super::rows::{backend, get};
use super::scene::{CLIENT, CONSUMER, OTHER, http_route, lab, route};

const PATIENCE: Duration = Duration::from_secs(15);

fn extension(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: ambit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: mesh}}\n\
         spec: {{{spec}}}\n"
    )
}

/// A rule for a path with an extension of the same name.
fn rule(kind: &str, name: &str) -> String {
    format!(
        "- matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n  \
         filters: [{{type: ExtensionRef, extensionRef: {{group: ambit.dev, kind: {kind}, name: {name}}}}}]\n  {}",
        backend("v1")
    )
}

fn attempts(lab: &Lab, path: &str) -> u64 {
    let counts = lab.get("mesh/v1", "http://127.0.0.1:8080/requests");
    counts[path].as_u64().unwrap_or_default()
}

fn refused(answer: &Answer) -> bool {
    assert!([200, 429].contains(&answer.status), "{answer:?}");
    assert_eq!(
        answer.server().is_empty(),
        answer.status == 429,
        "{answer:?}"
    );
    answer.status == 429
}

#[test]
fn what_is_over_a_limit_is_refused() {
    let lab = lab();
    // So long an interval that no token comes back during the test.
    let limits = extension("RateLimit", "route", "requests: 3, interval: 1h")
        + &extension(
            "RateLimit",
            "client",
            "requests: 2, interval: 1h, per: Client",
        )
        + &extension("RateLimit", "burst", "requests: 2, burst: 4, interval: 1h")
        + &extension("RateLimit", "short", "requests: 1, interval: 4s");
    let rules: Vec<String> = ["route", "client", "burst", "short"]
        .map(|name| rule("RateLimit", name))
        .into();
    let rules = rules.join("\n");
    lab.apply(&(limits.clone() + &http_route("limited", "echo", &rules)));
    let call =
        |from: &'static str, path: &str| Call::get(from, &format!("echo.mesh{path}")).answer(&lab);

    // Of one route all clients share the tokens; a path of the rule is not a route.
    let mut passed = Vec::new();
    for (from, path) in [
        (CLIENT, "/route"),
        (OTHER, "/route/x"),
        (CONSUMER, "/route"),
        (CLIENT, "/route"),
        (OTHER, "/route"),
    ] {
        passed.push(!refused(&call(from, path)));
    }
    assert_eq!(passed, [true, true, true, false, false]);
    assert_eq!(attempts(&lab, "/route") + attempts(&lab, "/route/x"), 3);
    let answer = call(CLIENT, "/route");
    let wait: u64 = answer
        .header("retry-after")
        .and_then(|it| it.parse().ok())
        .expect("seconds");
    assert!((1..=1200).contains(&wait), "{wait}");

    // Each identity has its own.
    for from in [CLIENT, OTHER, CONSUMER] {
        let passed: Vec<bool> = (0..3).map(|_| !refused(&call(from, "/client"))).collect();
        assert_eq!(passed, [true, true, false], "{from}");
    }
    assert_eq!(attempts(&lab, "/client"), 6);

    let passed = (0..6).filter(|_| !refused(&call(CLIENT, "/burst"))).count();
    assert_eq!(passed, 4);

    // Tokens come back, and not before their time.
    let spent = Instant::now();
    assert!(!refused(&call(CLIENT, "/short")));
    eventually("another token", PATIENCE, || {
        (!refused(&call(CLIENT, "/short"))).then_some(())
    });
    assert!(
        spent.elapsed() > Duration::from_secs(2),
        "{:?}",
        spent.elapsed()
    );

    // A change of something else gives nothing back; rules without a limit have none.
    let more = format!("{rules}\n- {}", backend("v2"));
    lab.apply(&http_route("limited", "echo", &more));
    assert!(refused(&call(CLIENT, "/route")));
    assert!(refused(&call(OTHER, "/client")));
    for _ in 0..5 {
        assert_eq!(call(CLIENT, "/free").server(), "v2");
    }
    // A limit that is gone is one that cannot be honoured: the rule refuses and does not let everything by.
    lab.delete(&extension("RateLimit", "route", ""));
    assert_eq!(call(CLIENT, "/route").status, 500);
}

#[test]
fn calls_over_a_limit_learn_it_in_their_own_way() {
    let lab = lab();
    let rules = "- filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: calls}}]\n  \
                 backendRefs: [{name: v1, port: 7070}]";
    lab.apply(
        &(extension("RateLimit", "calls", "requests: 4, interval: 1h")
            + &route(
                "GRPCRoute",
                "mesh",
                "calls",
                "name: echo, port: 7070",
                rules,
            )),
    );
    let report = lab.load(
        CLIENT,
        &["grpc", "--json", "-n", "10", "http://echo.mesh:7070"],
    );
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("a report");
    assert_eq!(report["errors"]["total"], 6, "{report}");
    assert!(
        report.to_string().contains("grpc status 14")
            || report.to_string().contains("grpc status 8"),
        "{report}"
    );
}

#[test]
fn faults_are_injected_as_the_route_says() {
    let lab = lab();
    let faults = [
        ("late", "delay: {duration: 4s}"),
        ("gone", "abort: {status: 418}"),
        ("both", "delay: {duration: 4s}, abort: {status: 503}"),
        (
            "never",
            "delay: {duration: 1h, percent: 0}, abort: {status: 500, percent: 0}",
        ),
        ("half", "abort: {status: 599, percent: 50}"),
    ];
    let manifests: String = faults
        .map(|(name, spec)| extension("FaultInjection", name, spec))
        .concat();
    let rules: Vec<String> = faults.map(|(name, _)| rule("FaultInjection", name)).into();
    lab.apply(&(manifests + &http_route("faulty", "echo", &rules.join("\n"))));
    for (path, late, status) in [
        ("/late", true, 200),
        ("/gone", false, 418),
        ("/both", true, 503),
        ("/never", false, 200),
    ] {
        let start = Instant::now();
        let answer = get(path).answer(&lab);
        let took = start.elapsed();
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(took >= Duration::from_secs(4), late, "{path}: {took:?}");
        let reached = if status == 200 { 1 } else { 0 };
        assert_eq!(attempts(&lab, path), reached, "{path}");
    }
    let report = lab.load(
        CLIENT,
        &[
            "http",
            "--json",
            "-n",
            "400",
            "-c",
            "4",
            "http://echo.mesh/half",
        ],
    );
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("a report");
    let aborted = report["errors"]["total"].as_u64().expect("a number");
    // Six standard deviations of a binomial: a failure is no bad luck.
    assert!((140..=260).contains(&aborted), "{report}");
    assert_eq!(attempts(&lab, "/half"), 400 - aborted);
}
