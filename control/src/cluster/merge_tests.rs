//! Each row: what is there, what is wanted, what is applied.

use super::*;

const NOW: &str = "2026-01-02T00:00:00Z";
const OLD: &str = "2026-01-01T00:00:00Z";

fn condition(of: &str, status: &str, time: Option<&str>) -> Value {
    let mut condition = json!({"type": of, "status": status, "reason": "R", "message": "m"});
    if let Some(time) = time {
        condition["lastTransitionTime"] = json!(time);
    }
    condition
}

fn parent(controller: &str, name: &str, conditions: &[Value]) -> Value {
    json!({"controllerName": controller, "parentRef": {"name": name}, "conditions": conditions})
}

#[test]
fn what_is_written_beside_others() {
    let other = parent(
        "example.com/x",
        "a",
        &[condition("Accepted", "False", Some(OLD))],
    );
    let accepted = |status, time| condition("Accepted", status, time);
    let theirs = condition("Theirs", "True", Some(OLD));
    let rows = [
        (
            "a first status",
            json!(null),
            Some(json!({"parents": [parent(CONTROLLER, "a", &[accepted("True", None)])]})),
            Some(json!({"parents": [parent(CONTROLLER, "a", &[accepted("True", Some(NOW))])]})),
        ),
        (
            "entries of other controllers stay",
            json!({"parents": [other, parent(CONTROLLER, "b", &[accepted("True", Some(OLD))])]}),
            Some(json!({"parents": [parent(CONTROLLER, "a", &[accepted("True", None)])]})),
            Some(
                json!({"parents": [other, parent(CONTROLLER, "a", &[accepted("True", Some(NOW))])]}),
            ),
        ),
        (
            "the time stays with the status",
            json!({"parents": [parent(CONTROLLER, "a", &[
                accepted("True", Some(OLD)), condition("ResolvedRefs", "False", Some(OLD))])]}),
            Some(json!({"parents": [parent(CONTROLLER, "a", &[
                accepted("True", None), condition("ResolvedRefs", "True", None)])]})),
            Some(json!({"parents": [parent(CONTROLLER, "a", &[
                accepted("True", Some(OLD)), condition("ResolvedRefs", "True", Some(NOW))])]})),
        ),
        (
            "what is said is not said again",
            json!({"parents": [other, parent(CONTROLLER, "a", &[accepted("True", Some(OLD))])], "more": 1}),
            Some(json!({"parents": [parent(CONTROLLER, "a", &[accepted("True", None)])]})),
            None,
        ),
        (
            "what is not wanted any more goes, others stay",
            json!({"parents": [other, parent(CONTROLLER, "a", &[accepted("True", Some(OLD))])]}),
            None,
            Some(json!({"parents": [other]})),
        ),
        ("nothing there, nothing wanted", json!(null), None, None),
        (
            "only others, nothing wanted",
            json!({"parents": [other]}),
            None,
            None,
        ),
        (
            "conditions of others stay",
            json!({"conditions": [theirs, condition("istio.io/WaypointBound", "False", Some(OLD))]}),
            Some(json!({"conditions": [condition("istio.io/WaypointBound", "True", None)]})),
            Some(
                json!({"conditions": [theirs, condition("istio.io/WaypointBound", "True", Some(NOW))]}),
            ),
        ),
        (
            "conditions of ours that are over go",
            json!({"conditions": [condition("istio.io/WaypointBound", "True", Some(OLD)), theirs], "loadBalancer": {}}),
            None,
            Some(json!({"conditions": [theirs]})),
        ),
        (
            "a message that differs is written",
            json!({"conditions": [{"type": "Accepted", "status": "True", "reason": "R", "message": "old", "lastTransitionTime": OLD}]}),
            Some(json!({"conditions": [accepted("True", None)]})),
            Some(json!({"conditions": [accepted("True", Some(OLD))]})),
        ),
        (
            "a Gateway's listeners",
            json!({"listeners": [{"name": "mesh", "conditions": [accepted("True", Some(OLD))]}], "addresses": []}),
            Some(
                json!({"listeners": [{"name": "mesh", "conditions": [accepted("True", None)]}], "addresses": [{"value": "1"}]}),
            ),
            Some(
                json!({"listeners": [{"name": "mesh", "conditions": [accepted("True", Some(OLD))]}], "addresses": [{"value": "1"}]}),
            ),
        ),
    ];
    for (name, now, wanted, expected) in rows {
        let merged = merge(&now, wanted.as_ref(), NOW);
        assert_eq!(merged, expected, "{name}");
        if let Some(merged) = merged {
            assert_eq!(
                merge(&merged, wanted.as_ref(), "later"),
                None,
                "{name}: once"
            );
        }
    }
}
