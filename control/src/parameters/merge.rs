//! Strategic merge patches, as `kubectl patch` has them by default: objects are merged field by field; lists whose
//! elements have a key are merged element by element, others are replaced; `null` removes a field, and `$patch` says
//! `delete` of an element, or `replace` of an object or a list.

use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";

/// Lists whose elements have a key, with the fields that may be the key: the first one that an element has.
const KEYED: [(&str, &[&str]); 9] = [
    ("containers", &["name"]),
    ("env", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ports", &["containerPort", "port"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// `object` as `patch` changes it.
pub(super) fn merge(object: Value, patch: &Value) -> Value {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => Value::Object(fields(object, patch)),
        (_, patch) => plain(patch),
    }
}

fn fields(mut object: Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    if patch.get(DIRECTIVE).is_some_and(|it| it == "replace") {
        object.clear();
    }
    for (field, value) in patch.iter().filter(|(field, _)| *field != DIRECTIVE) {
        if value.is_null() {
            object.remove(field);
            continue;
        }
        let old = object.remove(field).unwrap_or_default();
        let keys = KEYED.iter().find(|(name, _)| name == field);
        let new = match (old, value, keys) {
            (Value::Array(old), Value::Array(patch), Some((_, keys))) => {
                Value::Array(elements(old, patch, keys))
            }
            (old, value, _) => merge(old, value),
        };
        object.insert(field.clone(), new);
    }
    object
}

fn elements(mut list: Vec<Value>, patch: &[Value], keys: &[&str]) -> Vec<Value> {
    if patch.iter().any(|it| it[DIRECTIVE] == "replace") {
        list.clear();
    }
    for element in patch {
        let key = keys.iter().find(|key| !element[**key].is_null());
        let same = |old: &Value| key.is_some_and(|key| old[*key] == element[*key]);
        let at = list.iter().position(same);
        match (element[DIRECTIVE].as_str(), at) {
            (Some("delete"), Some(at)) => drop(list.remove(at)),
            (Some("delete" | "replace"), _) => {}
            (_, Some(at)) => {
                let old = list[at].take();
                list[at] = merge(old, element);
            }
            (_, None) => list.push(plain(element)),
        }
    }
    list
}

/// A patch where there is nothing to change: without what is only for patches.
fn plain(patch: &Value) -> Value {
    match patch {
        Value::Object(patch) => Value::Object(fields(Map::new(), patch)),
        Value::Array(all) => {
            let is_plain = |one: &&Value| one.get(DIRECTIVE).is_none();
            Value::Array(all.iter().filter(is_plain).map(plain).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_change_what_they_name() {
        let object = json!({"spec": {
            "replicas": 1, "paused": true,
            "tolerations": [{"key": "a"}],
            "containers": [
                {"name": "w", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                {"name": "x"},
            ],
        }});
        let rows = [
            ("nothing", json!({}), json!({})),
            ("a field", json!({"replicas": 3}), json!({"replicas": 3})),
            (
                "a field that goes",
                json!({"paused": null}),
                json!({"paused": null}),
            ),
            (
                "a new object",
                json!({"a": {"b": null, "c": 1}}),
                json!({"a": {"c": 1}}),
            ),
            (
                "a list without keys",
                json!({"tolerations": [{"key": "b"}]}),
                json!({"tolerations": [{"key": "b"}]}),
            ),
            (
                "an element by its key",
                json!({"containers": [{"name": "w", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}),
                json!({"containers": [
                    {"name": "w", "image": "i", "env": [
                        {"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
                    {"name": "x"},
                ]}),
            ),
            (
                "elements that come and go",
                json!({"containers": [{"name": "x", "$patch": "delete"}, {"name": "z", "$patch": "delete"}, {"name": "y"}]}),
                json!({"containers": [object["spec"]["containers"][0], {"name": "y"}]}),
            ),
            (
                "a whole list",
                json!({"containers": [{"$patch": "replace"}, {"name": "y"}]}),
                json!({"containers": [{"name": "y"}]}),
            ),
        ];
        for (name, patch, expected) in rows {
            let patched = merge(object.clone(), &json!({"spec": patch}));
            let mut wanted = object.clone();
            for (field, value) in expected.as_object().expect("fields") {
                match value {
                    Value::Null => drop(
                        wanted["spec"]
                            .as_object_mut()
                            .expect("a spec")
                            .remove(field),
                    ),
                    value => wanted["spec"][field] = value.clone(),
                }
            }
            assert_eq!(patched, wanted, "{name}");
        }
        let whole = merge(
            json!({"a": {"b": 1}}),
            &json!({"a": {"$patch": "replace", "c": 2}}),
        );
        assert_eq!(whole, json!({"a": {"c": 2}}));
        let ports = json!({"ports": [{"port": 1, "name": "a"}, {"containerPort": 1}]});
        let patched = merge(ports, &json!({"ports": [{"port": 1, "name": "b"}]}));
        assert_eq!(
            patched["ports"],
            json!([{"port": 1, "name": "b"}, {"containerPort": 1}])
        );
    }
}
