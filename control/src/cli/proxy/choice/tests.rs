use serde_json::json;

use super::*;

/// A name, the pods there are, what is wanted and for which part, and what comes of it.
type Case<'a> = (
    &'a str,
    &'a [Value],
    Wanted<'a>,
    Part,
    Result<&'a str, &'a str>,
);

fn pod(name: &str, of: &str, phase: &str, ready: &str, ending: bool) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": {GATEWAY_NAME: of},
            "deletionTimestamp": ending.then_some("2026-01-01T00:00:00Z"),
        },
        "spec": {"nodeName": of},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn instances(kind: Kind, pods: &[Value]) -> Vec<Instance> {
    let read = |pod| Instance::read(kind, pod);
    pods.iter().filter_map(read).collect()
}

fn chosen(kind: Kind, wanted: Wanted<'_>, part: Part, pods: &[Value]) -> Result<String, String> {
    let instances = instances(kind, pods);
    match choose(kind, wanted, part, &instances) {
        Ok(instance) => Ok(instance.name.clone()),
        Err(Unclear::Unknown(_)) => Err("unknown".to_owned()),
        Err(Unclear::Said(said)) => Err(said),
    }
}

#[test]
fn a_node_proxy_is_named_by_its_pod_or_its_node() {
    let pods = [
        pod("z-a", "n1", "Running", "True", true),
        pod("z-b", "n1", "Running", "True", false),
        pod("z-c", "n1", "Running", "False", false),
        pod("z-d", "n2", "Pending", "False", false),
    ];
    let several = [&pods[..], &[pod("z-e", "n3", "Running", "True", false)]].concat();
    let any = Part::Connections;
    let cases: [Case<'_>; 9] = [
        ("a pod", &pods, Wanted::Named("z-a"), any, Ok("z-a")),
        (
            "the one that stays",
            &pods,
            Wanted::OnNode("n1"),
            any,
            Ok("z-b"),
        ),
        ("the only one", &pods, Wanted::Only, any, Ok("z-b")),
        (
            "one that does not run",
            &pods,
            Wanted::Named("z-d"),
            any,
            Err("nothing runs in pod z-d, which is Pending"),
        ),
        (
            "a node whose proxy does not run",
            &pods,
            Wanted::OnNode("n2"),
            any,
            Err("nothing runs in pod z-d, which is Pending"),
        ),
        ("no pod", &pods, Wanted::Named("n1"), any, Err("unknown")),
        (
            "no node",
            &pods[2..],
            Wanted::OnNode("n9"),
            any,
            Err("node n9 has no node proxy; there is z-c on n1, z-d on n2"),
        ),
        (
            "one of several",
            &several,
            Wanted::Only,
            any,
            Err(
                "there is more than one node proxy (name its pod, or its node with --node): there is z-b on n1, \
                 z-c on n1, z-e on n3",
            ),
        ),
        (
            "none",
            &[],
            Wanted::Only,
            any,
            Err("no node proxy runs there"),
        ),
    ];
    for (name, pods, wanted, part, expected) in cases {
        let found = chosen(Kind::NodeProxy, wanted, part, pods);
        let found = found.as_deref().map_err(String::as_str);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_waypoint_is_named_by_itself_or_by_an_instance() {
    let one = pod("w-1", "w", "Running", "False", false);
    let two = pod("w-2", "w", "Running", "True", false);
    let other = pod("v-1", "v", "Running", "True", false);
    let waiting = pod("u-1", "u", "Pending", "False", false);
    let pods = [one.clone(), two, other, waiting];
    let own = Part::Connections;
    let cases: [Case<'_>; 7] = [
        ("itself", &pods, Wanted::Named("w"), Part::Routes, Ok("w-2")),
        ("a pod", &pods, Wanted::Named("w-1"), own, Ok("w-1")),
        (
            "one of its instances",
            &pods,
            Wanted::Named("w"),
            own,
            Err("each instance of w has its own connections: name one of w-2, w-1"),
        ),
        (
            "its only instance",
            &pods,
            Wanted::Named("v"),
            own,
            Ok("v-1"),
        ),
        ("the only one", &[one], Wanted::Only, own, Ok("w-1")),
        (
            "one of several",
            &pods,
            Wanted::Only,
            Part::Routes,
            Err("there is more than one waypoint (name it): there is v, w"),
        ),
        (
            "none that runs",
            &pods,
            Wanted::Named("u"),
            Part::Routes,
            Err("nothing runs in pod u-1, which is Pending"),
        ),
    ];
    for (name, pods, wanted, part, expected) in cases {
        let found = chosen(Kind::Waypoint, wanted, part, pods);
        let found = found.as_deref().map_err(String::as_str);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_long_list_is_cut() {
    let pods: Vec<Value> = (10..22)
        .map(|n| {
            pod(
                &format!("z-{n}"),
                &format!("n{n}"),
                "Running",
                "True",
                false,
            )
        })
        .collect();
    let said = there(Kind::NodeProxy, instances(Kind::NodeProxy, &pods).iter());
    assert!(said.ends_with("z-19 on n19 and 2 more"), "{said}");
}
