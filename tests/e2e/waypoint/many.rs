//! Ten thousand rules of one service, and one that changes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::call::Call;
use super::scene::{CLIENT, lab};
use super::told::WAYPOINT;
use ambit_lab::metrics;

const ROUTES: usize = 625;
/// As many as a route may have (Gateway API).
const RULES: usize = 16;
/// What a build without optimization on a busy machine may take: the figure to reach is 100 ms.
const LONG: Duration = Duration::from_secs(2);

/// Paths `/r/ROUTE/RULE`, to `v1`.
fn routes(of: std::ops::Range<usize>) -> String {
    let mut all = String::new();
    for route in of {
        let _ = write!(
            all,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
             metadata: {{name: r-{route}, namespace: mesh}}\n\
             spec:\n  parentRefs: [{{group: \"\", kind: Service, name: echo}}]\n  rules:\n"
        );
        for rule in 0..RULES {
            let _ = writeln!(
                all,
                "  - {{matches: [{{path: {{type: Exact, value: /r/{route}/{rule}}}}}], backendRefs: [{{name: v1, port: 8080}}]}}"
            );
        }
    }
    all
}

#[test]
fn one_of_ten_thousand_rules_changes_by_one_message() {
    let lab = lab();
    let began = Instant::now();
    for first in (0..ROUTES).step_by(125) {
        lab.apply(&routes(first..first + 125));
    }
    let applied = began.elapsed();
    let asked = |path: &str| Call::get(CLIENT, path).answer(&lab);
    for (path, status) in [
        ("/r/0/0", 200),
        ("/r/300/7", 200),
        ("/r/624/15", 200),
        ("/r/625/0", 404),
    ] {
        assert_eq!(asked(path).status, status, "{path}");
    }

    let pushes = || {
        let url = "http://127.0.0.1:15020/stats/prometheus";
        let text = lab.load(WAYPOINT, &["get", "--fail", url]).success();
        metrics::sum(&text, "ambit_xds_pushes_total", &[])
    };
    // To whomever.
    let resources = || {
        let url = "http://172.30.0.1:15014/metrics";
        let text = lab.load("node/node-1", &["get", "--fail", url]).success();
        metrics::sum(&text, "ambit_control_pushed_resources_total", &[])
    };
    let mut took = Vec::new();
    let mut now = "v1";
    for turn in 0..5 {
        let next = if now == "v1" { "v2" } else { "v1" };
        let before = (pushes(), resources());
        // The first rule, in the folder that the control plane reads, behind the lab's back. The control plane is asked to
        // put that in force, and answers when every proxy has.
        let script = format!(
            "set -e; cd /run/ambit-lab/mesh/source/httproute; \
             sed '0,/\"name\": \"{now}\"/s//\"name\": \"{next}\"/' mesh_r-300.json > /tmp/next.$$; \
             from=$(date +%s%N); mv /tmp/next.$$ mesh_r-300.json; \
             curl -sSf -o /dev/null -X POST 'http://172.30.0.1:15014/sync?timeout=20'; to=$(date +%s%N); \
             echo $(( (to - from) / 1000 ))"
        );
        let micros = lab.exec("node/node-1", &["sh", "-c", &script]).success();
        let micros = Duration::from_micros(micros.trim().parse().expect("microseconds"));
        let first = asked("/r/300/0");
        assert_eq!(
            first.server(),
            next,
            "turn {turn}: the first request after it"
        );
        for other in ["/r/300/1", "/r/301/0"] {
            assert_eq!(asked(other).server(), "v1", "turn {turn}: {other}");
        }
        let cost = (pushes() - before.0, resources() - before.1);
        assert_eq!(cost, (1.0, 1.0), "turn {turn}: messages and what they have");
        took.push(micros);
        now = next;
    }
    took.sort();
    eprintln!(
        "{} rules applied in {applied:?}; one change in force after {took:?}",
        ROUTES * RULES
    );
    assert!(took[took.len() / 2] < LONG, "{took:?}");
}
