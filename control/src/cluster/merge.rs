//! What is written into an object's status, beside what others have written there. Pure.
//!
//! `parents` and `ancestors` of Gateway API objects are one list for all controllers, each of which has the
//! entries of its name. Of conditions only those of our types are ours. The time of a transition stays as long
//! as a condition's status does.

use serde_json::{Map, Value, json};

use crate::translate::status::CONTROLLER;

/// Types of conditions that only we write, or write as soon as the object is ours.
const OURS: &[&str] = &[
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "WaypointAccepted",
    "ZtunnelAccepted",
    "ambit.dev/WaypointRequired",
    "istio.io/WaypointBound",
];

/// The status to apply; `None` when `now` says it all already. `wanted` is what should be said, `None` for
/// nothing any more; `time` is that of transitions.
#[must_use]
pub fn merge(now: &Value, wanted: Option<&Value>, time: &str) -> Option<Value> {
    let none = Map::new();
    let fields = wanted.and_then(Value::as_object).unwrap_or(&none);
    let mut merged = Map::new();
    for list in ["parents", "ancestors"] {
        if fields.contains_key(list) || now.get(list).is_some() {
            let wanted = fields.get(list).and_then(Value::as_array);
            merged.insert(list.to_owned(), entries(&now[list], wanted, time));
        }
    }
    if let Some(listeners) = fields.get("listeners").and_then(Value::as_array) {
        let timed = listeners.iter().map(|listener| {
            let same = |old: &&Value| old["name"] == listener["name"];
            timed(find(&now["listeners"], same), listener, time)
        });
        merged.insert("listeners".to_owned(), timed.collect());
    }
    for (field, value) in fields {
        if !merged.contains_key(field) && field != "conditions" {
            merged.insert(field.clone(), value.clone());
        }
    }
    if fields.contains_key("conditions") || now.get("conditions").is_some() {
        let wanted = fields.get("conditions").and_then(Value::as_array);
        let wanted = wanted.map_or(&[][..], Vec::as_slice);
        merged.insert(
            "conditions".to_owned(),
            conditions(&now["conditions"], wanted, time),
        );
    }
    if merged.is_empty() {
        return None;
    }
    let merged = Value::Object(merged);
    (!says(now, &merged)).then_some(merged)
}

/// The entries of others as they are, then ours.
fn entries(now: &Value, wanted: Option<&Vec<Value>>, time: &str) -> Value {
    let all = now.as_array().map_or(&[][..], Vec::as_slice);
    let (ours, others): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|entry| entry["controllerName"] == CONTROLLER);
    let mut merged: Vec<Value> = others.into_iter().cloned().collect();
    for entry in wanted.into_iter().flatten() {
        let same = |old: &&&Value| {
            old["parentRef"] == entry["parentRef"] && old["ancestorRef"] == entry["ancestorRef"]
        };
        merged.push(timed(ours.iter().find(same).copied(), entry, time));
    }
    Value::Array(merged)
}

/// Conditions of others as they are, in their places, then ours.
fn conditions(now: &Value, wanted: &[Value], time: &str) -> Value {
    let all = now.as_array().map_or(&[][..], Vec::as_slice);
    let ours = |condition: &Value| {
        wanted.iter().any(|it| it["type"] == condition["type"])
            || OURS.iter().any(|of| condition["type"] == *of)
    };
    let mut merged: Vec<Value> = all.iter().filter(|it| !ours(it)).cloned().collect();
    for condition in wanted {
        let old = all.iter().find(|old| old["type"] == condition["type"]);
        merged.push(since(old, condition, time));
    }
    Value::Array(merged)
}

/// An entry whose conditions know since when they hold.
fn timed(old: Option<&Value>, entry: &Value, time: &str) -> Value {
    let mut entry = entry.clone();
    if let Some(conditions) = entry.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions {
            let old = old.and_then(|old| {
                let same = |it: &&Value| it["type"] == condition["type"];
                find(&old["conditions"], same)
            });
            *condition = since(old, condition, time);
        }
    }
    entry
}

fn since(old: Option<&Value>, condition: &Value, time: &str) -> Value {
    let mut condition = condition.clone();
    let same = old.filter(|old| old["status"] == condition["status"]);
    let before = same.map(|old| old["lastTransitionTime"].clone());
    let time = before
        .filter(Value::is_string)
        .unwrap_or_else(|| json!(time));
    condition["lastTransitionTime"] = time;
    condition
}

fn find<'a>(list: &'a Value, of: impl FnMut(&&'a Value) -> bool) -> Option<&'a Value> {
    list.as_array()?.iter().find(of)
}

/// Whether all of `merged` is in `now` already. Order has no meaning in conditions.
fn says(now: &Value, merged: &Value) -> bool {
    match (now, merged) {
        (Value::Object(now), Value::Object(merged)) => merged.iter().all(|(field, value)| {
            let empty = value.as_array().is_some_and(Vec::is_empty);
            now.get(field).map_or(empty, |now| says(now, value))
        }),
        (Value::Array(now), Value::Array(merged)) => {
            now.len() == merged.len() && merged.iter().all(|it| now.iter().any(|now| says(now, it)))
        }
        (now, merged) => now == merged,
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
