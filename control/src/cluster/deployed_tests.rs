//! Rows of what is wanted and found, and the steps between.

use super::*;

fn id(name: &str) -> Id {
    Id {
        resource: 1,
        namespace: "a".into(),
        name: name.into(),
    }
}

/// As the API server gives it back: with a version and a status.
fn stored(object: &Value, version: u64) -> Value {
    let mut object = object.clone();
    object["metadata"] =
        json!({"uid": "u", "resourceVersion": version.to_string(), "generation": version});
    object["status"] = json!({"ready": version});
    object
}

fn steps(deployed: &Deployed) -> Vec<(String, &'static str)> {
    let steps = deployed.steps().into_iter();
    let steps = steps.map(|(id, step)| match step {
        Step::Apply { first: true, .. } => (id.name, "apply first"),
        Step::Apply { first: false, .. } => (id.name, "apply"),
        Step::Remove(_) => (id.name, "remove"),
    });
    steps.collect()
}

fn step(name: &str, of: &'static str) -> Vec<(String, &'static str)> {
    vec![(name.to_owned(), of)]
}

#[test]
fn an_objects_life() {
    let object = json!({"spec": {"a": 1}});
    let mut deployed = Deployed::default();
    deployed.want([(id("x"), object.clone())].into(), BTreeSet::new());
    assert_eq!(steps(&deployed), step("x", "apply first"));
    deployed.applied(&id("x"), &object, &stored(&object, 1));
    assert_eq!(steps(&deployed), []);
    // Its status says nothing to us.
    deployed.is(id("x"), Some(Found::of(&stored(&object, 2))));
    assert_eq!(steps(&deployed), []);
    // Changed by another, deleted by another, wanted otherwise.
    let changed = stored(&json!({"spec": {"a": 2}}), 3);
    deployed.is(id("x"), Some(Found::of(&changed)));
    assert_eq!(steps(&deployed), step("x", "apply"));
    deployed.is(id("x"), None);
    assert_eq!(steps(&deployed), step("x", "apply first"));
    deployed.applied(&id("x"), &object, &stored(&object, 4));
    let other = json!({"spec": {"a": 3}});
    deployed.want([(id("x"), other.clone())].into(), BTreeSet::new());
    assert_eq!(steps(&deployed), step("x", "apply"));
    deployed.applied(&id("x"), &other, &stored(&other, 5));
    deployed.want(BTreeMap::new(), BTreeSet::new());
    assert_eq!(steps(&deployed), step("x", "remove"));
    deployed.is(id("x"), None);
    assert_eq!(steps(&deployed), []);
}

#[test]
fn what_another_replica_applied_is_applied_once_more() {
    let object = json!({"spec": {"a": 1}});
    let mut deployed = Deployed::default();
    deployed.is(id("x"), Some(Found::of(&stored(&object, 1))));
    deployed.want([(id("x"), object.clone())].into(), BTreeSet::new());
    assert_eq!(steps(&deployed), step("x", "apply"));
}

#[test]
fn who_may_be_taken_over() {
    let rows = [
        (json!({"metadata": {}}), false),
        (json!({"metadata": {"labels": {MANAGED_BY: "Helm"}}}), false),
        (
            json!({"metadata": {"labels": {MANAGED_BY: FIELD_MANAGER}}}),
            true,
        ),
        (
            json!({"metadata": {"ownerReferences": [{"uid": "other"}]}}),
            false,
        ),
        (
            json!({"metadata": {"ownerReferences": [{"uid": "g"}]}}),
            true,
        ),
    ];
    for (object, expected) in rows {
        assert_eq!(is_owned_by(&object, "g"), expected, "{object}");
    }
}

#[test]
fn a_waypoint_is_told_of_the_grace_period_that_its_pod_has() {
    let pod = |seconds: u32, told: &str| {
        json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": seconds, "containers": [
            {"name": "waypoint", "env": [{"name": "POD_NAME"}, {"name": GRACE, "value": told}]},
            {"name": "another", "env": [{"name": GRACE, "value": "1"}]},
        ]}}}})
    };
    let mut changed = pod(300, "45");
    tell_grace(&mut changed);
    assert_eq!(changed, pod(300, "300"));
    // What parameters can make of it.
    let grace = json!({"terminationGracePeriodSeconds": 1});
    let with = |name: &str, value: Value| {
        let mut pod = grace.clone();
        pod[name] = value;
        json!({"spec": {"template": {"spec": pod}}})
    };
    for odd in [
        json!({"spec": 5}),
        json!({"spec": {"template": "x"}}),
        json!({"spec": {"template": []}}),
        json!({"spec": {"template": {"spec": ["x"]}}}),
        with("containers", json!("x")),
        with("containers", json!([5, ["x"], {"name": "waypoint"}])),
        with(
            "containers",
            json!([{"name": "waypoint", "env": [5, ["x"]]}]),
        ),
    ] {
        let mut same = odd.clone();
        tell_grace(&mut same);
        assert_eq!(same, odd);
    }
}
