//! A waypoint as `manifests/samples` has it: what runs it, what it decides, and what kubectl shows of it.

use std::collections::BTreeSet;

use ambit_lab::harness::eventually;
use ambit_lab::metrics;
use serde_json::{Value, json};

use crate::installed::{Cluster, MANIFESTS};
use crate::plane::PATIENCE;
use crate::pods::name;
use crate::traffic::{Flow, under_load};

const WAYPOINT: &str = "gateway.networking.k8s.io/gateway-name=waypoint";
pub(crate) const URL: &str = "http://reviews.shop:8080/";
/// How many requests are split, and between which numbers of them one of ten is: six standard deviations.
const REQUESTS: u32 = 600;
const OF_TEN: std::ops::RangeInclusive<f64> = 16.0..=108.0;

/// Servers of two versions, who may ask them, and who may not.
pub(crate) fn programs() -> String {
    let server = |version: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: reviews-{version}}}\n\
             spec:\n  selector: {{matchLabels: {{app: reviews, version: {version}}}}}\n  template:\n    \
             metadata: {{labels: {{app: reviews, version: {version}}}}}\n    spec:\n      containers:\n      \
             - {{name: echo, image: ambit/echo, readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}}}\n"
        )
    };
    let client = |account: &str| {
        format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {account}}}\n\
             spec:\n  serviceAccountName: {account}\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
             - {{name: sleep, image: none, command: [sleep, infinity]}}\n"
        )
    };
    server("v1") + &server("v2") + &client("frontend") + &client("stranger")
}

/// Conditions as `Type=Status/Reason`, in the order of their types.
fn conditions(part: &Value) -> BTreeSet<String> {
    let all = part["conditions"].as_array().into_iter().flatten();
    all.map(|it| {
        let text = |field: &str| it[field].as_str().unwrap_or_default();
        assert!(!text("lastTransitionTime").is_empty(), "{it}");
        assert!(!text("message").is_empty(), "{it}");
        format!("{}={}/{}", text("type"), text("status"), text("reason"))
    })
    .collect()
}

/// Waits until the conditions of a part of an object's status are these.
fn has(cluster: &Cluster, (kind, name): (&str, &str), part: &str, wanted: &[&str]) {
    let mut found = BTreeSet::new();
    let same = || {
        let object = cluster.plane.object(kind, "shop", name)?;
        found = conditions(object["status"].pointer(part)?);
        found.iter().eq(wanted).then_some(())
    };
    eventually(&format!("{kind} {name}: {wanted:?}"), PATIENCE, same);
}

/// Requests that the waypoint has sent to a version.
fn served(cluster: &Cluster, version: &str) -> f64 {
    let pods = cluster.plane.pods_of("shop", WAYPOINT);
    let target = format!("shop/{}", name(pods.first().expect("an instance")));
    let url = "http://127.0.0.1:15020/stats/prometheus";
    let page = cluster.lab.load(&target, &["get", url]).success();
    let workload = format!("reviews-{version}");
    let labels = [
        ("destination_workload", &*workload),
        ("response_code", "200"),
    ];
    metrics::sum(&page, "istio_requests_total", &labels)
}

#[test]
fn a_gateway_splits_denies_and_goes() {
    let cluster = Cluster::with_mesh(2);
    let samples = format!("{MANIFESTS}/samples");
    let namespace = format!("{samples}/namespace.yaml");
    cluster.kubectl(&["apply", "-f", &namespace]);
    cluster.kubectl(&["apply", "-f", &samples]);
    cluster.apply("shop", &programs());
    for version in ["v1", "v2"] {
        let deployment = format!("deploy/reviews-{version}");
        cluster.plane.rolled_out("shop", &deployment);
    }
    for pod in ["pod/frontend", "pod/stranger"] {
        cluster.plane.condition("shop", pod, "Ready");
    }
    cluster
        .plane
        .condition("shop", "gateway/waypoint", "Programmed");

    what_is_said(&cluster);
    what_runs_it(&cluster);
    what_it_decides(&cluster);
    what_operators_see(&cluster);
    what_parameters_change(&cluster);
    without_it(&cluster);
}

fn what_is_said(cluster: &Cluster) {
    let good = ["Accepted=True/Accepted", "Programmed=True/Programmed"];
    has(cluster, ("gateway", "waypoint"), "", &good);
    let resolved = [good[0], "ResolvedRefs=True/ResolvedRefs"];
    has(cluster, ("httproute", "reviews"), "/parents/0", &resolved);
    let bound = ["istio.io/WaypointBound=True/WaypointAccepted"];
    has(cluster, ("service", "reviews"), "", &bound);
    let policy = ("authorizationpolicy", "reviews-reads");
    has(cluster, policy, "", &["WaypointAccepted=True/Accepted"]);
    has(cluster, ("gatewayclass", "ambit-waypoint"), "", &good[..1]);

    let row = |kind: &str| {
        let table = cluster
            .plane
            .kubectl(&["get", kind, "-n", "shop"])
            .success();
        let row = table.lines().nth(1).unwrap_or_default().to_owned();
        row.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let service = cluster.plane.object("service", "shop", "waypoint");
    let service = service.expect("the waypoint's Service");
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    assert_eq!(
        row("gateway")[..4],
        ["waypoint", "ambit-waypoint", address, "True"]
    );

    let described = |object: &str| {
        cluster
            .plane
            .kubectl(&["describe", "-n", "shop", object])
            .success()
    };
    for (object, words) in [
        ("gateway/waypoint", "an instance is ready"),
        ("service/reviews", "reviews"),
        ("httproute/reviews", "ambit.dev/waypoint-controller"),
    ] {
        let text = described(object);
        assert!(text.contains(words), "{object}: {text}");
    }

    // A route that leads nowhere says so, and nothing else of the mesh changes for it.
    cluster.apply(
        "shop",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: lost}\n\
         spec:\n  parentRefs: [{group: '', kind: Service, name: reviews-v1}]\n  \
         rules: [{backendRefs: [{name: nobody, port: 8080}]}]\n",
    );
    let lost = [
        "Accepted=True/Accepted",
        "ResolvedRefs=False/BackendNotFound",
    ];
    has(cluster, ("httproute", "lost"), "/parents/0", &lost);
    let text = described("httproute/lost");
    assert!(text.contains("nobody"), "{text}");
    cluster.kubectl(&["delete", "-n", "shop", "httproute/lost"]);
}

const OBJECTS: [&str; 4] = [
    "deployment",
    "service",
    "serviceaccount",
    "poddisruptionbudget",
];

fn what_runs_it(cluster: &Cluster) {
    let gateway = cluster.plane.object("gateway", "shop", "waypoint");
    let uid = gateway.expect("the Gateway")["metadata"]["uid"].clone();
    for kind in OBJECTS {
        let object = cluster.plane.object(kind, "shop", "waypoint");
        let metadata = object.unwrap_or_else(|| panic!("no {kind}"))["metadata"].clone();
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&"Gateway".into(), &uid),
            "{kind}"
        );
    }
}

fn what_it_decides(cluster: &Cluster) {
    let count = REQUESTS.to_string();
    let many = ["--json", "http", "-c", "4", "-n", &count, URL];
    let report = cluster.lab.load("shop/frontend", &many).json();
    assert_eq!(report["requests"], REQUESTS, "{report}");
    let (first, second) = (served(cluster, "v1"), served(cluster, "v2"));
    assert_eq!(first + second, f64::from(REQUESTS), "{first} and {second}");
    assert!(OF_TEN.contains(&second), "{first} and {second}");

    let status = |client: &str, method: &str| {
        let asked = ["get", "--include", "-X", method, URL];
        let answer = cluster.lab.load(client, &asked).success();
        let line = answer.lines().next().unwrap_or_default().to_owned();
        line.split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(status("shop/frontend", "GET"), "200");
    assert_eq!(status("shop/frontend", "POST"), "403", "reads only");
    // Node proxies of the servers know only the frontend, whoever carries the request.
    assert_eq!(status("shop/stranger", "GET"), "503");
}

fn what_operators_see(cluster: &Cluster) {
    let ambit = |line: &str| cluster.plane.ambit(&line.split(' ').collect::<Vec<_>>());
    let list = ambit("waypoint list -n shop").success();
    let row: Vec<_> = list
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(row[..4], ["shop", "waypoint", "service", "true"], "{list}");
    let rows = ambit("waypoint list -A -o json").json();
    assert_eq!(rows[0]["bound"], json!(["service shop/reviews"]));
    let kept = ambit("waypoint delete waypoint -n shop").failure();
    assert!(kept.contains("service shop/reviews"), "{kept}");

    let explain = "explain --from shop/frontend --to reviews.shop:8080";
    let passes = ambit(explain).success();
    assert!(
        passes.contains("rule ") && passes.ends_with("The request passes.\n"),
        "{passes}"
    );
    let refused = ambit(&format!("{explain} --method POST")).success();
    assert!(refused.ends_with("The request is refused.\n"), "{refused}");

    let flow = Flow {
        client: "shop/frontend",
        url: URL,
    };
    let shown = under_load(&cluster.lab, "top", &[flow], || {
        eventually("top shows the requests", PATIENCE, || {
            let shown = ambit("top --once -o json").json();
            assert_eq!(shown["silent"], json!([]), "every proxy answers");
            let pairs = shown["pairs"].as_array()?;
            let is =
                |pair: &&Value| pair["protocol"] == "http" && pair["source"]["name"] == "frontend";
            let shown = pairs.iter().find(is)?;
            (shown["rate"].as_f64() > Some(10.0)).then(|| shown.clone())
        })
    });
    // A route splits them: what is shown is where they went.
    let version = shown["destination"]["name"].as_str();
    assert!(
        version.is_some_and(|it| it.starts_with("reviews-v")),
        "{shown}"
    );
    assert_eq!(shown["success"], 1.0, "{shown}");
    assert_eq!(shown["protection"], "mutual_tls", "{shown}");

    let made = ambit("waypoint apply second -n shop --for none --wait").success();
    assert!(
        made.contains("waypoint shop/second is ready at 10.96."),
        "{made}"
    );
    let _ = ambit("waypoint delete second -n shop").success();
}

pub(crate) const PARAMETERS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: options}
data:
  RUST_LOG: debug
  horizontalPodAutoscaler: |
    spec: {minReplicas: 2, maxReplicas: 4}
  deployment: |
    spec: {template: {spec: {containers: [{name: waypoint, resources: {requests: {cpu: 50m}}}]}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: scaled}
spec:
  gatewayClassName: ambit-waypoint
  infrastructure: {parametersRef: {group: '', kind: ConfigMap, name: options}}
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
";

fn what_parameters_change(cluster: &Cluster) {
    cluster.apply("shop", PARAMETERS);
    let object = |kind: &str| cluster.plane.object(kind, "shop", "scaled");
    let scaler = eventually("an autoscaler", PATIENCE, || object("hpa"));
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "scaled");
    assert_eq!(scaler["spec"]["maxReplicas"], 4);
    assert_eq!(scaler["metadata"]["ownerReferences"][0]["kind"], "Gateway");
    eventually("the autoscaler's least", PATIENCE, || {
        let deployment = object("deployment")?;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"]["cpu"], "50m");
        (deployment["spec"]["replicas"] == 2).then_some(())
    });
    let broken = "data: {horizontalPodAutoscaler: '- no'}";
    let patch = ["patch", "-n", "shop", "configmap/options", "-p", broken];
    cluster.kubectl(&patch);
    let wrong = [
        "Accepted=False/InvalidParameters",
        "Programmed=True/Programmed",
    ];
    has(cluster, ("gateway", "scaled"), "", &wrong);
    assert!(object("hpa").is_some(), "what is there stays");
    cluster.kubectl(&["delete", "-n", "shop", "gateway/scaled"]);
    eventually("the autoscaler goes with its Gateway", PATIENCE, || {
        object("hpa").is_none().then_some(())
    });
}

fn without_it(cluster: &Cluster) {
    cluster.kubectl(&["delete", "-n", "shop", "gateway/waypoint"]);
    for kind in OBJECTS {
        eventually(&format!("the waypoint's {kind} goes"), PATIENCE, || {
            let there = cluster.plane.object(kind, "shop", "waypoint");
            there.is_none().then_some(())
        });
    }
    let missing = ["istio.io/WaypointBound=False/WaypointMissing"];
    has(cluster, ("service", "reviews"), "", &missing);
    // Bound means required.
    eventually("nobody goes around a waypoint", PATIENCE, || {
        (cluster.get("shop/frontend", URL).code != 0).then_some(())
    });
}
