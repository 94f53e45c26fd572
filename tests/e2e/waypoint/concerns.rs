//! What the control plane tells a waypoint: what concerns it, and nothing else.

use ambit_lab::harness::Lab;

use super::call::Call;
use super::scene::{CLIENT, gateway, http_route, lab, service};

const FIRST: &str = "mesh/deploy/waypoint";
const SECOND: &str = "mesh/deploy/second";

/// The names of a waypoint's routes and policies.
fn known(lab: &Lab, waypoint: &str) -> Vec<String> {
    let dump = lab.get(waypoint, "http://127.0.0.1:15000/config_dump");
    let names = |list: &str, key: &str| -> Vec<String> {
        let all = dump[list].as_array().into_iter().flatten();
        all.map(|it| it["key"][key].to_string().replace('"', ""))
            .collect()
    };
    let policies = dump["policies"].as_array().into_iter().flatten();
    let policies = policies.map(|it| it["key"].to_string().replace('"', ""));
    [names("routes", "route"), policies.collect()].concat()
}

/// Messages that a waypoint has got.
fn pushes(lab: &Lab, waypoint: &str) -> f64 {
    let url = "http://127.0.0.1:15020/stats/prometheus";
    let text = lab.load(waypoint, &["get", "--fail", url]).success();
    ambit_lab::metrics::sum(&text, "ambit_xds_pushes_total", &[])
}

#[test]
fn a_waypoint_knows_what_concerns_it() {
    let lab = lab();
    let bind = |name: &str, waypoint: &str| {
        let labels = format!("namespace: mesh, labels: {{istio.io/use-waypoint: {waypoint}}}");
        service("mesh", name, &format!("version: {name}")).replace("namespace: mesh", &labels)
    };
    let policy = |service: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: of-{service}, namespace: mesh}}\nspec:\n  \
             targetRefs: [{{kind: Service, group: \"\", name: {service}}}]\n  action: DENY\n  \
             rules: [{{to: [{{operation: {{paths: [/denied]}}}}]}}]\n"
        )
    };
    let to = |service: &str, header: &str| {
        let rule = format!(
            "- filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-route, value: {header}}}]}}}}]\n  \
             backendRefs: [{{name: {service}, port: 80}}]"
        );
        http_route(service, service, &rule)
    };
    lab.apply(&(gateway("mesh", "second", "") + &bind("v3", "second")));
    lab.apply(&(to("v1", "one") + &to("v3", "one") + &policy("v3")));
    let routed = |name: &str, value: &str| {
        let answer = Call::get(CLIENT, &format!("{name}.mesh/")).answer(&lab);
        assert_eq!(answer.server(), name, "{answer:?}");
        assert_eq!(answer.sent("x-route").as_deref(), Some(value), "{name}");
        let denied = Call::get(CLIENT, &format!("{name}.mesh/denied")).answer(&lab);
        assert_eq!(
            denied.status,
            if name == "v3" { 403 } else { 200 },
            "{name}"
        );
    };
    routed("v1", "one");
    routed("v3", "one");
    assert_eq!(known(&lab, FIRST), ["mesh/v1", "mesh/of-v3"]);
    assert_eq!(known(&lab, SECOND), ["mesh/v3", "mesh/of-v3"]);

    // One message to the one that is concerned.
    let before = [FIRST, SECOND].map(|it| pushes(&lab, it));
    lab.apply(&to("v3", "two"));
    routed("v3", "two");
    let after = [FIRST, SECOND].map(|it| pushes(&lab, it));
    assert_eq!(after, [before[0], before[1] + 1.0]);

    // A service that moves takes along what concerns it.
    lab.apply(&bind("v3", "waypoint"));
    routed("v3", "two");
    assert_eq!(known(&lab, FIRST), ["mesh/v1", "mesh/v3", "mesh/of-v3"]);
    assert_eq!(known(&lab, SECOND), [""; 0]);
    lab.apply(&bind("v3", "second"));
    routed("v3", "two");
    assert_eq!(known(&lab, FIRST), ["mesh/v1", "mesh/of-v3"]);
    assert_eq!(known(&lab, SECOND), ["mesh/v3", "mesh/of-v3"]);
}
