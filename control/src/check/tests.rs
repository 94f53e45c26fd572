//! Each row: what is different from a cluster where all is well, and what is found.

use serde_json::json;

use super::*;

const POLICIES_OF_SHOP: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
const PEERS_OF_SHOP: &str = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications";
const MACHINES_OF_SHOP: &str = "/apis/networking.istio.io/v1/namespaces/shop/workloadentries";

fn well() -> Answers {
    let labels = json!({DATAPLANE_MODE: "ambient", USE_WAYPOINT: "w"});
    let pod = |name: &str, marked: bool| {
        let annotations = json!({"ambient.istio.io/redirection": marked.then_some("enabled")});
        json!({"metadata": {"name": name, "annotations": annotations}, "status": {"phase": "Running"}})
    };
    let condition = json!({"type": "Programmed", "status": "True"});
    let answers = [
        ("/version", json!({"gitVersion": "v1.32.4-gke.1"})),
        (
            NODES,
            json!({"items": [{"metadata": {"name": "n"}, "status": {"nodeInfo": {"kernelVersion": "6.1.0-18"}}}]}),
        ),
        (GATEWAY_API, json!({})),
        (POLICIES, json!({})),
        (SYSTEM, json!({})),
        (
            CONTROL,
            json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}),
        ),
        (
            PROXIES,
            json!({"status": {"desiredNumberScheduled": 3, "numberReady": 3}}),
        ),
        (CLASS, json!({"spec": {"controllerName": CONTROLLER}})),
        (unheard::NAMESPACES, json!({"items": []})),
        (unheard::PODS, json!({"items": []})),
        (
            unheard::GATEWAYS,
            json!({"items": [gateway("w", "ambit-waypoint"), gateway("n", "istio-east-west"), gateway("i", "nginx")]}),
        ),
        (unheard::CLASSES, json!({"items": [class("nginx", "True")]})),
        (
            "/api/v1/namespaces/shop",
            json!({"metadata": {"name": "shop", "labels": labels}}),
        ),
        (
            "/api/v1/namespaces/shop/pods",
            json!({"items": [pod("a", true)]}),
        ),
        (
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways",
            json!({"items": [{"metadata": {"name": "w"}, "status": {"conditions": [condition]}}]}),
        ),
        (POLICIES_OF_SHOP, json!({"items": []})),
        (PEERS_OF_SHOP, json!({"items": []})),
        (MACHINES_OF_SHOP, json!({"items": []})),
    ];
    let answers = answers.into_iter();
    answers
        .map(|(path, answer)| (path.to_owned(), Ok(answer)))
        .collect()
}

fn gateway(name: &str, class: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "edge"}, "spec": {"gatewayClassName": class}})
}

fn class(name: &str, accepted: &str) -> Value {
    let condition = json!({"type": "Accepted", "status": accepted});
    json!({"metadata": {"name": name}, "status": {"conditions": [condition]}})
}

#[test]
fn every_failure_names_its_fix() {
    assert_eq!(well().into_keys().collect::<Vec<_>>(), {
        let mut questions = questions(Some("shop"));
        questions.sort();
        questions
    });
    let rows: [(&str, Result<Value, u16>, &str); 26] = [
        ("/nothing", Err(404), ""),
        (
            "/version",
            Ok(json!({"gitVersion": "v1.29.9"})),
            "Kubernetes is 1.30 or newer: it is \"v1.29.9\" / upgrade the cluster",
        ),
        (
            NODES,
            Ok(
                json!({"items": [{"metadata": {"name": "n"}, "status": {"nodeInfo": {"kernelVersion": "5.4.1"}}}]}),
            ),
            "nodes run Linux 5.15 or newer: n has 5.4.1 / upgrade these nodes",
        ),
        (
            NODES,
            Err(403),
            "nodes run Linux 5.15 or newer: the API server does not let you see /api/v1/nodes / \
             kubectl auth can-i --list says what you may; ask for the rest",
        ),
        (
            GATEWAY_API,
            Err(404),
            "the Gateway API is installed: it is not there / kubectl apply --server-side -k manifests/external-crds",
        ),
        (
            POLICIES,
            Err(404),
            "Istio's policies are known: it is not there / kubectl apply --server-side -k manifests/external-crds",
        ),
        (
            SYSTEM,
            Err(404),
            "Ambit is installed: it is not there / ambit install | kubectl apply -f -",
        ),
        (
            SYSTEM,
            Err(500),
            "Ambit is installed: the API server answers 500 / look at the API server",
        ),
        (
            CONTROL,
            Ok(json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}})),
            "the control plane is ready: 1 of 2 / \
             kubectl -n ambit-system describe deployment/ambit-control says what is missing",
        ),
        (
            PROXIES,
            Err(404),
            "every node has its proxy: it is not there / \
             kubectl -n ambit-system describe daemonset/ztunnel says what is missing",
        ),
        // As `--no-gateway-classes` has it.
        (CLASS, Err(404), ""),
        (
            CLASS,
            Ok(json!({"spec": {"controllerName": "example.com/x"}})),
            "no other controller has the class of waypoints: its controller is example.com/x / \
             kubectl delete gatewayclass ambit-waypoint, then ambit install | kubectl apply -f -",
        ),
        (
            unheard::NAMESPACES,
            Ok(
                json!({"items": [{"metadata": {"name": "shop", "labels": {DATAPLANE_MODE: "ambinet"}}}]}),
            ),
            "labels istio.io/dataplane-mode are ambient or none: namespace shop has \"ambinet\"; any other value has no effect / \
             kubectl label --overwrite namespace NAME istio.io/dataplane-mode=ambient, or the same for a pod",
        ),
        (
            unheard::PODS,
            Ok(
                json!({"items": [{"metadata": {"name": "a", "namespace": "shop", "labels": {DATAPLANE_MODE: ""}}}]}),
            ),
            "labels istio.io/dataplane-mode are ambient or none: pod shop/a has \"\"; any other value has no effect / \
             kubectl label --overwrite namespace NAME istio.io/dataplane-mode=ambient, or the same for a pod",
        ),
        (unheard::NAMESPACES, Err(403), ""),
        (unheard::PODS, Err(403), ""),
        (unheard::GATEWAYS, Err(401), ""),
        (unheard::CLASSES, Err(403), ""),
        (
            unheard::GATEWAYS,
            Err(500),
            "every Gateway has a controller: the API server answers 500 / look at the API server",
        ),
        (
            unheard::CLASSES,
            Ok(json!({"items": []})),
            "every Gateway has a controller: edge/i is of class nginx, which is not there / \
             install the controller of this class; a waypoint is of class ambit-waypoint, \
             a gateway between networks of class ambit-east-west",
        ),
        (
            unheard::CLASSES,
            Ok(json!({"items": [class("nginx", "Unknown")]})),
            "every Gateway has a controller: edge/i is of class nginx, which no controller has accepted / \
             install the controller of this class; a waypoint is of class ambit-waypoint, \
             a gateway between networks of class ambit-east-west",
        ),
        (
            "/api/v1/namespaces/shop",
            Err(404),
            "namespace shop is in the mesh: it is not there / kubectl create namespace shop",
        ),
        (
            "/api/v1/namespaces/shop",
            Ok(json!({"metadata": {"labels": {DATAPLANE_MODE: "none"}}})),
            "namespace shop is in the mesh: its label istio.io/dataplane-mode is \"none\" / \
             kubectl label namespace shop istio.io/dataplane-mode=ambient",
        ),
        (
            "/api/v1/namespaces/shop/pods",
            Ok(json!({"items": [
                {"metadata": {"name": "a"}, "status": {"phase": "Running"}},
                {"metadata": {"name": "b"}, "status": {"phase": "Succeeded"}},
                {"metadata": {"name": "c"}, "spec": {"hostNetwork": true}, "status": {"phase": "Running"}},
                {"metadata": {"name": "d", "labels": {DATAPLANE_MODE: "none"}}, "status": {"phase": "Running"}}]})),
            "pods of shop are captured: a / kubectl -n shop describe pod a says why, in its events",
        ),
        (
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways",
            Ok(json!({"items": []})),
            "waypoint w of shop is programmed: there is no such Gateway / \
             manifests/samples/waypoint.yaml has one",
        ),
        (
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways",
            Ok(
                json!({"items": [{"metadata": {"name": "w"}, "status": {"conditions":
                [{"type": "Programmed", "status": "False", "message": "no pod is ready"}]}}]}),
            ),
            "waypoint w of shop is programmed: no pod is ready / kubectl -n shop describe gateway w",
        ),
    ];
    for (path, answer, expected) in rows {
        let mut answers = well();
        answers.insert(path.to_owned(), answer);
        let failed = findings(&answers, Some("shop"))
            .into_iter()
            .filter_map(|finding| {
                let Failure { reason, fix } = finding.failure?;
                Some(format!("{}: {reason} / {fix}", finding.what))
            });
        let failed: Vec<_> = failed.collect();
        let expected: Vec<_> = Some(expected)
            .filter(|text| !text.is_empty())
            .into_iter()
            .collect();
        assert_eq!(failed, expected, "{path}");
    }
}

#[test]
fn before_an_installation_only_the_cluster_is_looked_at() {
    let mut answers = well();
    for path in [SYSTEM, CONTROL, PROXIES, CLASS] {
        answers.insert(path.to_owned(), Err(404));
    }
    let found = findings(&answers, None);
    assert_eq!(found.len(), 7);
    let last = found[4].to_string();
    let expected = "failed  Ambit is installed: it is not there\n        \
                    fix: ambit install | kubectl apply -f -";
    assert_eq!(last, expected);
    assert_eq!(found[0].to_string(), "ok      Kubernetes is 1.30 or newer");
}

#[test]
fn what_may_not_be_seen_of_all_the_cluster_is_skipped() {
    let mut answers = well();
    answers.insert(unheard::PODS.to_owned(), Err(403));
    answers.insert(unheard::CLASSES.to_owned(), Err(401));
    let odd =
        json!({"items": [{"metadata": {"name": "shop", "labels": {DATAPLANE_MODE: "ambinet"}}}]});
    let said = |answers: &Answers| {
        let found = findings(answers, None);
        let [.., labels, gateways] = &found[..] else {
            panic!("{found:?}")
        };
        [labels.to_string(), gateways.to_string()]
    };
    let pods = format!(
        "skipped labels istio.io/dataplane-mode are ambient or none: the API server does not let you see {}",
        unheard::PODS
    );
    let classes = format!(
        "skipped every Gateway has a controller: the API server does not let you see {}",
        unheard::CLASSES
    );
    assert_eq!(said(&answers), [pods, classes]);
    // What is seen counts.
    answers.insert(unheard::NAMESPACES.to_owned(), Ok(odd));
    let [labels, _] = said(&answers);
    assert!(labels.starts_with("failed  "), "{labels}");
}

#[test]
fn a_policy_that_selects_nothing_is_no_failure_and_said() {
    let labelled =
        |labels: Value| json!({"items": [{"metadata": {"name": "a", "labels": labels}}]});
    let policy = |spec: Value| Ok(json!({"items": [{"metadata": {"name": "p"}, "spec": spec}]}));
    let web = || policy(json!({"selector": {"matchLabels": {"app": "web"}}}));
    let machine =
        json!({"items": [{"metadata": {"name": "vm"}, "spec": {"labels": {"app": "web"}}}]});
    let target = json!({"selector": {"matchLabels": {"app": "web"}}, "targetRefs": [{"kind": "Service", "name": "web"}]});
    let pods = "/api/v1/namespaces/shop/pods";
    let other = || (pods, Ok(labelled(json!({"app": "wep"}))));
    let said = |kind: &str| {
        Some(format!(
            "notice  policies of shop select pods: {kind} p: spec.selector selects no pod of namespace shop now: none has app=web"
        ))
    };
    let well_done = || Some("ok      policies of shop select pods".to_owned());
    let hidden = format!(
        "skipped policies of shop select pods: the API server does not let you see {PEERS_OF_SHOP}"
    );
    type Row<'a> = (&'a str, Vec<(&'a str, Result<Value, u16>)>, Option<String>);
    let rows: [Row<'_>; 9] = [
        ("none", vec![], None),
        (
            "another label",
            vec![(POLICIES_OF_SHOP, web()), other()],
            said("AuthorizationPolicy"),
        ),
        (
            "of STRICT",
            vec![(PEERS_OF_SHOP, web()), other()],
            said("PeerAuthentication"),
        ),
        (
            "a pod",
            vec![
                (POLICIES_OF_SHOP, web()),
                (pods, Ok(labelled(json!({"app": "web", "b": "c"})))),
            ],
            well_done(),
        ),
        (
            "a machine",
            vec![
                (POLICIES_OF_SHOP, web()),
                (MACHINES_OF_SHOP, Ok(machine)),
                other(),
            ],
            well_done(),
        ),
        (
            "no machines are known",
            vec![
                (POLICIES_OF_SHOP, web()),
                (MACHINES_OF_SHOP, Err(404)),
                other(),
            ],
            said("AuthorizationPolicy"),
        ),
        (
            "for a waypoint",
            vec![(POLICIES_OF_SHOP, policy(target)), other()],
            None,
        ),
        (
            "for all",
            vec![(POLICIES_OF_SHOP, policy(json!({}))), other()],
            None,
        ),
        ("hidden", vec![(PEERS_OF_SHOP, Err(403))], Some(hidden)),
    ];
    for (case, changes, expected) in rows {
        let mut answers = well();
        answers.extend(
            changes
                .into_iter()
                .map(|(path, answer)| (path.to_owned(), answer)),
        );
        let found = findings(&answers, Some("shop"));
        let about = found
            .iter()
            .find(|it| it.what == "policies of shop select pods");
        assert_eq!(about.map(ToString::to_string), expected, "{case}");
        assert!(about.is_none_or(|it| it.failure.is_none()), "{case}");
    }
}
