//! Statuses of classes, Gateways and bound Services; bindings that a Gateway does not allow.

use ambit_core::model::Destination;

use crate::index::Index;
use crate::translate::testing::{apply, conditions, index, notices, problems, status};

fn gateway(class: &str, labels: &str, allowed: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: w, namespace: infra, labels: {{{labels}}}}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {{{allowed}}}}}}}]}}\n---\n"
    )
}

const BOUND: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra}}
spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}
";

/// Where calls to the Service go: `waypoint`, `nowhere` or directly.
fn way(index: &Index) -> &'static str {
    let service = index
        .services()
        .find(|s| &*s.name == "web")
        .expect("the service");
    match service
        .waypoint
        .as_ref()
        .map(|waypoint| &waypoint.destination)
    {
        None => "directly",
        Some(Destination::Hostname(key)) if &*key.name == "w.infra.svc.cluster.local" => "waypoint",
        Some(Destination::Hostname(key)) if key.name.ends_with(".invalid") => "nowhere",
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_binding_holds_where_the_gateway_allows_it_and_is_refused_elsewhere() {
    let ours = "ambit-waypoint";
    let bound = Some("True/WaypointAccepted");
    let refused = Some("False/WaypointNotAllowed");
    let cases = [
        (
            "of any namespace",
            gateway(ours, "", "from: All"),
            "waypoint",
            bound,
        ),
        (
            "of Istio's class",
            gateway("istio-waypoint", "", "from: All"),
            "waypoint",
            bound,
        ),
        (
            "of its own namespace alone",
            gateway(ours, "", "from: Same"),
            "nowhere",
            refused,
        ),
        (
            "by default its own alone",
            gateway(ours, "", ""),
            "nowhere",
            refused,
        ),
        (
            "selected",
            gateway(
                ours,
                "",
                "from: Selector, selector: {matchLabels: {team: a}}",
            ),
            "waypoint",
            bound,
        ),
        (
            "selected otherwise",
            gateway(
                ours,
                "",
                "from: Selector, selector: {matchLabels: {team: b}}",
            ),
            "nowhere",
            refused,
        ),
        (
            "selected by expression",
            gateway(
                ours,
                "",
                "from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}",
            ),
            "waypoint",
            bound,
        ),
        (
            "not selected by expression",
            gateway(
                ours,
                "",
                "from: Selector, selector: {matchExpressions: [{key: team, operator: DoesNotExist}]}",
            ),
            "nowhere",
            refused,
        ),
        (
            "of another class",
            gateway("nginx", "", "from: All"),
            "nowhere",
            refused,
        ),
        (
            "for services",
            gateway(ours, "istio.io/waypoint-for: service", "from: All"),
            "waypoint",
            bound,
        ),
        (
            "for all",
            gateway(ours, "istio.io/waypoint-for: all", "from: All"),
            "waypoint",
            bound,
        ),
        (
            "for workloads",
            gateway(ours, "istio.io/waypoint-for: workload", "from: All"),
            "directly",
            None,
        ),
        (
            "for nothing",
            gateway(ours, "istio.io/waypoint-for: none", "from: All"),
            "directly",
            None,
        ),
        (
            "missing",
            String::new(),
            "waypoint",
            Some("False/WaypointMissing"),
        ),
    ];
    for (case, gateway, expected, condition) in cases {
        let index = index(&format!("{gateway}{BOUND}"));
        assert_eq!(way(&index), expected, "{case}");
        let found =
            status(&index, "Service shop/web").map(|s| conditions(&s["conditions"]).remove(0));
        let condition = condition.map(|c| format!("istio.io/WaypointBound={c}"));
        assert_eq!(found, condition, "{case}");
        let fine = condition.is_none_or(|c| c.contains("True"));
        assert_eq!(
            problems(&index, "Service shop/web").is_empty(),
            fine,
            "{case}"
        );
    }
}

#[test]
fn a_gateway_is_programmed_when_an_instance_is_ready() {
    let service = |ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: w, namespace: infra}}\nspec: {{clusterIP: '{ip}', ports: [{{port: 15008}}]}}\n---\n"
        )
    };
    let pod = |ready: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: w-1, namespace: infra, labels: {{gateway.networking.k8s.io/gateway-name: w}}}}\nspec: {{containers: []}}\nstatus: {{podIP: 10.0.0.1, conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
        )
    };
    let cases = [
        ("nothing yet", String::new(), "False/AddressNotAssigned"),
        ("no address", service(""), "False/AddressNotAssigned"),
        ("no instance", service("10.96.0.9"), "False/Pending"),
        (
            "an instance that is not ready",
            service("10.96.0.9") + &pod("False"),
            "False/Pending",
        ),
        (
            "ready",
            service("10.96.0.9") + &pod("True"),
            "True/Programmed",
        ),
    ];
    for (case, rest, expected) in cases {
        let gateway = gateway("ambit-waypoint", "", "from: All");
        let index = index(&format!("{gateway}{rest}"));
        let status = status(&index, "Gateway infra/w").expect("a status");
        let found = conditions(&status["conditions"]);
        assert_eq!(
            found,
            [
                "Accepted=True/Accepted".to_owned(),
                format!("Programmed={expected}")
            ],
            "{case}"
        );
        let listener = conditions(&status["listeners"][0]["conditions"]);
        assert_eq!(listener[1], format!("Programmed={expected}"), "{case}");
        let known = !expected.contains("Address");
        assert_eq!(
            status["addresses"][0]["value"].as_str(),
            known.then_some("10.96.0.9"),
            "{case}"
        );
    }
}

#[test]
fn other_listeners_and_other_classes() {
    let text = gateway("ambit-waypoint", "", "from: All").replace("port: 15008", "port: 80");
    let index_of = |text: &str| index(text);
    let found = index_of(&text);
    let status_of = status(&found, "Gateway infra/w").expect("a status");
    assert_eq!(
        conditions(&status_of["listeners"][0]["conditions"])[0],
        "Accepted=False/UnsupportedProtocol"
    );
    assert_eq!(problems(&found, "Gateway infra/w").len(), 1);
    let found = index_of(&gateway("nginx", "", "from: All"));
    assert_eq!(status(&found, "Gateway infra/w"), None);
    let class = |name: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\nspec: {{controllerName: x.io/y}}\n"
        )
    };
    for (name, ours) in [
        ("ambit-waypoint", true),
        ("istio-waypoint", true),
        ("nginx", false),
    ] {
        let found = index_of(&class(name));
        assert_eq!(
            status(&found, &format!("GatewayClass {name}")).is_some(),
            ours,
            "{name}"
        );
    }
}

#[test]
fn a_way_around_the_waypoint_is_a_label_and_shows() {
    let cases = [
        (
            "on the service",
            BOUND.replace(
                "istio.io/use-waypoint: w",
                "istio.io/use-waypoint: w, ambit.dev/waypoint-bypass: allowed",
            ),
            true,
        ),
        (
            "on the namespace",
            BOUND.replace("team: a", "team: a, ambit.dev/waypoint-bypass: allowed"),
            true,
        ),
        (
            "another value",
            BOUND.replace("team: a", "team: a, ambit.dev/waypoint-bypass: 'true'"),
            false,
        ),
        ("no label", BOUND.to_owned(), false),
    ];
    for (case, bound, allowed) in cases {
        let index = index(&format!(
            "{}{bound}",
            gateway("ambit-waypoint", "", "from: All")
        ));
        let service = index.services().next().expect("the service");
        assert_eq!(service.waypoint_bypass, allowed, "{case}");
        assert_eq!(way(&index), "waypoint", "{case}: it stays bound");
        let status = status(&index, "Service shop/web").expect("a status");
        let shown = conditions(&status["conditions"]);
        let expected = "ambit.dev/WaypointRequired=False/BypassAllowed";
        assert_eq!(shown.iter().any(|c| c == expected), allowed, "{case}");
    }
}

#[test]
fn parameters_are_a_config_map_that_can_be_read() {
    let gateway = |kind: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: w, namespace: infra}}\n\
             spec:\n  gatewayClassName: ambit-waypoint\n  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]\n  \
             infrastructure: {{parametersRef: {{group: '', kind: {kind}, name: p}}}}\n---\n"
        )
    };
    let map = |data: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: p, namespace: infra}}\ndata: {{{data}}}\n"
        )
    };
    let cases = [
        (gateway("ConfigMap") + &map("RUST_LOG: debug"), None),
        (gateway("ConfigMap") + &map("deployment: 'spec: {}'"), None),
        (
            gateway("ConfigMap") + &map("deployment: '[]', service: '- a'"),
            Some(
                "ConfigMap infra/p: deployment: it is no YAML object; service: it is no YAML object",
            ),
        ),
        (
            gateway("ConfigMap"),
            Some("ConfigMap infra/p does not exist"),
        ),
        (
            gateway("Secret") + &map(""),
            Some(
                "spec.infrastructure.parametersRef names Secret \"p\" of group \"\"; it has to be a ConfigMap",
            ),
        ),
    ];
    for (yaml, wrong) in cases {
        let index = index(&yaml);
        let status = status(&index, "Gateway infra/w").expect("a status");
        let accepted = &status["conditions"][0];
        let reason = wrong.map_or("Accepted", |_| "InvalidParameters");
        assert_eq!(accepted["reason"], reason, "{yaml}");
        if let Some(wrong) = wrong {
            assert_eq!(accepted["message"], wrong, "{yaml}");
        }
    }
}

#[test]
fn a_gateway_of_no_class_is_said_and_one_of_others_left_alone() {
    let gateway = gateway("nginx", "", "from: All");
    let mut index = index(&gateway);
    let of = "Gateway infra/w";
    let said = |index: &Index| notices(index, of).join("|");
    let missing = said(&index);
    assert!(
        missing.starts_with("spec.gatewayClassName \"nginx\": there is no GatewayClass of this name; no controller takes"),
        "{missing}"
    );
    apply(
        &mut index,
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: nginx}\nspec: {controllerName: example.com/nginx}\n",
    );
    assert_eq!(said(&index), "");
    assert_eq!(status(&index, of), None);
    assert_eq!(problems(&index, of), [""; 0]);
}

#[test]
fn an_unknown_word_that_is_to_put_pods_into_the_mesh_is_said() {
    let of = |word: &str| {
        let labels = format!("labels: {{istio.io/dataplane-mode: {word}}}");
        let objects = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, {labels}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: shop, {labels}}}\nspec: {{containers: []}}\n"
        );
        let index = index(&objects);
        let said = |object: &str| notices(&index, object).join("|");
        [said("Namespace shop"), said("Pod shop/a")]
    };
    let odd =
        "label istio.io/dataplane-mode is \"ambinet\", which has no effect; write ambient or none";
    assert_eq!(of("ambinet"), [odd, odd]);
    for known in ["ambient", "none"] {
        assert_eq!(of(known), ["", ""]);
    }
}
