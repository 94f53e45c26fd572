//! What the control plane says of objects: their `status`. It is kept apart from the objects, so that
//! nothing the control plane says comes back to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Key, Kind};

/// The statuses, by kind and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses {
    cursor: String,
    known: BTreeMap<(String, Key), Arc<Value>>,
}

/// What `GET /statuses?after=CURSOR` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    cursor: String,
    whole: bool,
    statuses: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    kind: String,
    namespace: String,
    name: String,
    status: Option<Value>,
}

/// What an array's elements are told apart by.
const IDENTITIES: &[&str] = &["type", "parentRef", "ancestorRef", "name"];

impl Statuses {
    /// Where to ask for what is new.
    pub(super) fn path(&self) -> String {
        format!("/statuses?after={}", self.cursor)
    }

    /// Takes in what was answered at `time`. A condition keeps the time of its last transition.
    pub(super) fn take(&mut self, page: Page, time: &str) {
        let before = page.whole.then(|| std::mem::take(&mut self.known));
        for entry in page.statuses {
            let of = (entry.kind, Key::new(&entry.namespace, &entry.name));
            let before = before.as_ref().unwrap_or(&self.known);
            let old = before.get(&of).cloned().unwrap_or_default();
            match entry.status {
                Some(mut status) => {
                    stamp(&mut status, &old, time);
                    self.known.insert(of, Arc::new(status));
                }
                None => {
                    self.known.remove(&of);
                }
            }
        }
        self.cursor = page.cursor;
    }

    /// Puts into an object what is said of it; the rest of its status stays.
    pub fn show(&self, kind: &Kind, key: &Key, object: &mut Value) {
        let said = self.known.get(&(kind.kind.to_owned(), key.clone()));
        let Some(Value::Object(said)) = said.map(|it| &**it) else {
            return;
        };
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        for (field, value) in said {
            object["status"][field] = value.clone();
        }
    }

    /// Whether an object (`Kind namespace/name`) has a status, which says how far it is in force.
    #[must_use]
    pub fn tells(&self, object: &str) -> bool {
        self.of(object).is_some()
    }

    /// The conditions of an object (`Kind namespace/name`) that do not hold, in words.
    #[must_use]
    pub fn refusals(&self, object: &str) -> Vec<String> {
        let Some(status) = self.of(object) else {
            return Vec::new();
        };
        let mut refusals = Vec::new();
        for condition in conditions(status) {
            if condition["status"] == "False" {
                let text = |field: &str| condition[field].as_str().unwrap_or_default();
                let (of, reason, message) = (text("type"), text("reason"), text("message"));
                refusals.push(format!("not {of} ({reason}): {message}"));
            }
        }
        refusals.dedup();
        refusals
    }

    fn of(&self, object: &str) -> Option<&Value> {
        let (kind, name) = object.split_once(' ')?;
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let key = Key::new(namespace, name);
        Some(&**self.known.get(&(kind.to_owned(), key))?)
    }
}

/// Every condition of a status, those of its parents and the like included.
#[must_use]
pub fn conditions(status: &Value) -> Vec<&Value> {
    let parts = ["parents", "ancestors"].into_iter();
    let parts = parts.flat_map(|part| status[part].as_array().into_iter().flatten());
    std::iter::once(status)
        .chain(parts)
        .flat_map(|part| part["conditions"].as_array().into_iter().flatten())
        .collect()
}

/// Sets `lastTransitionTime` of all conditions in `new`: as in `old` when their status is the same.
fn stamp(new: &mut Value, old: &Value, time: &str) {
    match new {
        Value::Array(elements) => {
            for element in elements {
                let same = |old: &&Value| IDENTITIES.iter().all(|it| old[it] == element[it]);
                let old = old.as_array().into_iter().flatten().find(same);
                stamp(element, old.unwrap_or(&Value::Null), time);
            }
        }
        Value::Object(map) if map.contains_key("type") && map.contains_key("status") => {
            let kept = (map.get("status") == old.get("status")).then(|| &old["lastTransitionTime"]);
            let kept = kept.and_then(Value::as_str).unwrap_or(time);
            map.insert("lastTransitionTime".to_owned(), kept.into());
        }
        Value::Object(map) => {
            for (field, value) in map {
                stamp(value, &old[field], time);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(whole: bool, statuses: Value) -> Page {
        let page = json!({"cursor": "a-1", "whole": whole, "statuses": statuses});
        serde_json::from_value(page).expect("a page")
    }

    fn of_route(status: Value) -> Value {
        json!([{"kind": "HTTPRoute", "namespace": "n", "name": "r", "status": status}])
    }

    fn route(first: &str, statuses: &str) -> Value {
        let parent = |name: &str, status: &str| {
            json!({"parentRef": {"name": name}, "conditions": [
                {"type": "Accepted", "status": status, "reason": "Why", "message": name},
                {"type": "ResolvedRefs", "status": "True", "reason": "R", "message": ""},
            ]})
        };
        json!({"parents": [parent("a", first), parent("b", statuses)]})
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_transition() {
        let mut statuses = Statuses::default();
        statuses.take(page(true, of_route(route("True", "True"))), "1");
        statuses.take(page(false, of_route(route("True", "False"))), "2");
        // Another control plane says all of it again.
        statuses.take(page(true, of_route(route("True", "False"))), "3");
        let kind = Kind::of("HTTPRoute").expect("a kind");
        let mut object = json!({"kind": "HTTPRoute", "status": {"other": 1}});
        statuses.show(kind, &Key::new("n", "r"), &mut object);
        assert_eq!(object["status"]["other"], 1);
        let times: Vec<&str> = conditions(&object["status"])
            .iter()
            .map(|it| it["lastTransitionTime"].as_str().expect("a time"))
            .collect();
        assert_eq!(times, ["1", "1", "2", "1"]);
    }

    #[test]
    fn what_does_not_hold_is_said_in_words() {
        let mut statuses = Statuses::default();
        statuses.take(page(true, of_route(route("False", "True"))), "1");
        let refusals = statuses.refusals("HTTPRoute n/r");
        assert_eq!(refusals, ["not Accepted (Why): a"]);
        assert!(!statuses.tells("HTTPRoute n/other"));
        statuses.take(page(false, json!([])), "2");
        assert!(statuses.tells("HTTPRoute n/r"));
        statuses.take(page(false, of_route(Value::Null)), "3");
        assert!(!statuses.tells("HTTPRoute n/r"));
    }
}
