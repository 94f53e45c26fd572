//! What roles allow, and what the audit log says was asked. Rights are held against calls here, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::installed::SYSTEM;
use crate::plane::ControlPlane;

/// One verb on one resource, as a role allows it to an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    /// Kind and name of the role.
    role: String,
    /// As the API server names who asks.
    pub(crate) account: String,
    /// Only there, if the role is of a namespace.
    namespace: Option<String>,
    group: String,
    /// With its subresource.
    resource: String,
    /// Only of this name.
    name: Option<String>,
    verb: String,
}

impl Right {
    fn allows(&self, call: &Call) -> bool {
        let of = |right: &Option<String>, call: &String| right.as_ref().is_none_or(|it| it == call);
        (&self.account, &self.group) == (&call.account, &call.group)
            && (&self.resource, &self.verb) == (&call.resource, &call.verb)
            && of(&self.namespace, &call.namespace)
            && of(&self.name, &call.name)
    }
}

/// All rights of accounts of the mesh, whichever role they are from.
pub(crate) fn rights(plane: &ControlPlane) -> BTreeSet<Right> {
    let list = |kind: &str| {
        let list = plane.kubectl(&["get", kind, "-A", "-o", "json"]).json();
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let roles = ["clusterroles", "roles"].map(list).concat();
    let mut rights = BTreeSet::new();
    for binding in ["clusterrolebindings", "rolebindings"].map(list).concat() {
        let namespace = binding["metadata"]["namespace"].as_str();
        let to = &binding["roleRef"];
        let role = roles.iter().find(|role| {
            let of = &role["metadata"];
            let there = of["namespace"].is_null() || of["namespace"].as_str() == namespace;
            role["kind"] == to["kind"] && of["name"] == to["name"] && there
        });
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let ours =
            subjects.filter(|it| it["kind"] == "ServiceAccount" && it["namespace"] == SYSTEM);
        for subject in ours {
            let role = role.unwrap_or_else(|| panic!("no role for {binding}"));
            let account = subject["name"].as_str().unwrap_or_default();
            let of = Right {
                role: format!("{} {}", to["kind"], to["name"]).replace('"', ""),
                account: format!("system:serviceaccount:{SYSTEM}:{account}"),
                namespace: namespace.map(str::to_owned),
                ..Right::default()
            };
            let rules = role["rules"].as_array().into_iter().flatten();
            rights.extend(rules.flat_map(|rule| granted(rule, &of)));
        }
    }
    rights
}

/// The rights that a rule gives; `of` says whose they are.
fn granted(rule: &Value, of: &Right) -> Vec<Right> {
    type Set = fn(&mut Right, String);
    let lists: [(&str, Set); 4] = [
        ("apiGroups", |right, group| right.group = group),
        ("resources", |right, resource| right.resource = resource),
        ("resourceNames", |right, name| right.name = Some(name)),
        ("verbs", |right, verb| right.verb = verb),
    ];
    let mut rights = vec![of.clone()];
    // Without names a rule is of all names.
    for (field, set) in lists.into_iter().filter(|it| !rule[it.0].is_null()) {
        let values = rule[field].as_array().into_iter().flatten();
        let values = values.map(|value| value.as_str().unwrap_or_default().to_owned());
        let with = |value: String| {
            let mut rights = rights.clone();
            rights
                .iter_mut()
                .for_each(|right| set(right, value.clone()));
            rights
        };
        rights = values.flat_map(with).collect();
    }
    rights
}

/// One thing that an account asked, as a right has to allow it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    account: String,
    namespace: String,
    group: String,
    resource: String,
    name: String,
    verb: String,
    /// The status of the answer.
    code: u64,
    /// The path, for who reads of it.
    uri: String,
}

/// What an entry of the audit log asked for: an apply that makes an object needs the right to create it, too.
pub(crate) fn calls(event: &Value) -> Vec<Call> {
    let text = |path: &str| {
        let found = event.pointer(path).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let mut resource = text("/objectRef/resource");
    let part = text("/objectRef/subresource");
    if !part.is_empty() {
        resource = format!("{resource}/{part}");
    }
    let call = Call {
        account: text("/user/username"),
        namespace: text("/objectRef/namespace"),
        group: text("/objectRef/apiGroup"),
        resource,
        name: text("/objectRef/name"),
        verb: text("/verb"),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        uri: text("/requestURI")
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let makes = call.verb == "patch" && call.code == 201;
    let made = makes.then(|| Call {
        verb: "create".to_owned(),
        ..call.clone()
    });
    made.into_iter().chain([call]).collect()
}

/// What does not fit together.
pub(crate) fn differences(rights: &BTreeSet<Right>, calls: &BTreeSet<Call>) -> Vec<String> {
    // The namespaces in which each right was used; none in the whole cluster.
    let mut used: BTreeMap<&Right, BTreeSet<&str>> = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for call in calls {
        let asked = format!("{}: {} {}", call.account, call.verb, call.uri);
        let allowing = || rights.iter().filter(|right| right.allows(call));
        if call.code == 403 {
            // An API server that has just started refuses what it will allow once it knows its roles.
            if allowing().next().is_none() {
                wrong.insert(format!("refused, no role allows it: {asked}"));
            }
            continue;
        }
        // The narrowest does it.
        let own = allowing().find(|right| right.namespace.is_some());
        match own.or_else(|| allowing().next()) {
            Some(right) => drop(used.entry(right).or_default().insert(&call.namespace)),
            None => drop(wrong.insert(format!("allowed, and by none of our roles: {asked}"))),
        }
    }
    for right in rights {
        let said = format!(
            "{}: {} {}/{}",
            right.role, right.verb, right.group, right.resource
        );
        match used.get(right) {
            None => drop(wrong.insert(format!("allowed and never used: {said}"))),
            Some(places) if right.namespace.is_none() && places.iter().eq([&SYSTEM]) => {
                wrong.insert(format!("allowed everywhere, used in {SYSTEM} only: {said}"));
            }
            Some(_) => {}
        }
    }
    wrong.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn right(role: &str, namespace: Option<&str>, name: Option<&str>) -> Right {
        Right {
            role: role.to_owned(),
            account: "a".to_owned(),
            namespace: namespace.map(str::to_owned),
            group: "apps".to_owned(),
            resource: "sets/status".to_owned(),
            name: name.map(str::to_owned),
            verb: "patch".to_owned(),
        }
    }

    fn call(namespace: &str, name: &str, verb: &str, code: u64) -> Vec<Call> {
        calls(&json!({
            "user": {"username": "a"}, "verb": verb, "requestURI": "/uri",
            "objectRef": {"apiGroup": "apps", "resource": "sets", "subresource": "status",
                          "namespace": namespace, "name": name},
            "responseStatus": {"code": code},
        }))
    }

    #[test]
    fn each_difference_is_named() {
        let wide = right("wide", None, None);
        let narrow = right("narrow", Some(SYSTEM), Some("one"));
        let cases: [(&[&Right], Vec<Call>, &[&str]); 9] = [
            (&[&wide], call("shop", "one", "patch", 200), &[]),
            (&[&narrow], call(SYSTEM, "one", "patch", 200), &[]),
            (
                &[&wide],
                vec![],
                &["allowed and never used: wide: patch apps/sets/status"],
            ),
            (
                &[&wide],
                call(SYSTEM, "one", "patch", 200),
                &["allowed everywhere, used in ambit-system only: wide: patch apps/sets/status"],
            ),
            (
                &[&narrow],
                [
                    call(SYSTEM, "two", "patch", 200),
                    call(SYSTEM, "one", "patch", 200),
                ]
                .concat(),
                &["allowed, and by none of our roles: a: patch /uri"],
            ),
            (
                &[&wide],
                [
                    call("shop", "one", "patch", 200),
                    call("shop", "one", "get", 403),
                ]
                .concat(),
                &["refused, no role allows it: a: get /uri"],
            ),
            // By a server that did not know the role yet.
            (
                &[&wide],
                [
                    call("shop", "one", "patch", 403),
                    call("shop", "two", "patch", 200),
                ]
                .concat(),
                &[],
            ),
            (
                &[&wide],
                call("shop", "one", "patch", 403),
                &["allowed and never used: wide: patch apps/sets/status"],
            ),
            // An apply that made something.
            (
                &[&wide],
                call("shop", "one", "patch", 201),
                &["allowed, and by none of our roles: a: create /uri"],
            ),
        ];
        for (rights, calls, expected) in cases {
            let rights = rights.iter().map(|&it| it.clone()).collect();
            assert_eq!(differences(&rights, &calls.into_iter().collect()), expected);
        }
    }
}
