//! What users change of the objects that run a waypoint: strategic-merge patches under the keys of the ConfigMap that a
//! Gateway names in `spec.infrastructure.parametersRef`. Pure.
//!
//! The keys are Istio's. Whatever else the ConfigMap holds is environment, see [`crate::waypoints`].

mod merge;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::source::gateway::Gateway;
use merge::merge;

/// Keys of patches, in no particular order.
pub const KEYS: [&str; 5] = [
    "deployment",
    "horizontalPodAutoscaler",
    "podDisruptionBudget",
    "service",
    "serviceAccount",
];

/// The ConfigMap, of the Gateway's namespace, that a Gateway names.
///
/// # Errors
/// It names something else.
pub fn named(gateway: &Gateway) -> Result<Option<&str>, String> {
    let infrastructure = gateway.spec.infrastructure.as_ref();
    let Some(reference) = infrastructure.and_then(|it| it.parameters_ref.as_ref()) else {
        return Ok(None);
    };
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    match (text("group"), text("kind"), text("name")) {
        ("" | "core", "ConfigMap", name) if !name.is_empty() => Ok(Some(name)),
        (group, kind, name) => Err(format!(
            "spec.infrastructure.parametersRef names {kind} {name:?} of group {group:?}; it has to be a ConfigMap"
        )),
    }
}

/// Patches by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patches(BTreeMap<&'static str, Value>);

impl Patches {
    /// Reads a ConfigMap's data.
    ///
    /// # Errors
    /// All keys whose text is no object.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut patches = BTreeMap::new();
        let mut wrong = Vec::new();
        for key in KEYS {
            let Some(text) = data.get(key) else { continue };
            match serde_saphyr::from_str::<Value>(text) {
                Ok(patch @ Value::Object(_)) => {
                    patches.insert(key, patch);
                }
                Ok(_) => wrong.push(format!("{key}: it is no YAML object")),
                Err(error) => {
                    let error = error.to_string();
                    let first = error.lines().next().unwrap_or_default();
                    wrong.push(format!("{key}: {first}"));
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(Self(patches)),
            false => Err(wrong.join("; ")),
        }
    }

    /// Whether an autoscaler is wanted.
    #[must_use]
    pub fn autoscales(&self) -> bool {
        self.0.contains_key("horizontalPodAutoscaler")
    }

    /// The object of a key with its patch. What the object is, and whose, is not the patch's to say.
    #[must_use]
    pub fn apply(&self, key: &str, object: Value) -> Value {
        let Some(patch) = self.0.get(key) else {
            return object;
        };
        let mut patched = merge(object.clone(), patch);
        for place in FIXED {
            if let Some(value) = object.pointer(place) {
                restore(&mut patched, place, value);
            }
        }
        patched
    }
}

/// What makes an object the one it is, and its pods findable.
const FIXED: [&str; 8] = [
    "/apiVersion",
    "/kind",
    "/metadata/name",
    "/metadata/namespace",
    "/metadata/ownerReferences",
    "/metadata/labels/app.kubernetes.io~1managed-by",
    "/spec/selector",
    "/spec/scaleTargetRef",
];

fn restore(object: &mut Value, place: &str, value: &Value) {
    let mut at = object;
    for field in place.split('/').skip(1) {
        let field = field.replace("~1", "/");
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[field.as_str()];
    }
    at.clone_from(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Patches, String> {
        let pairs = pairs.iter();
        Patches::read(
            &pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn keys_are_objects_or_all_named() {
        let patches = read(&[("deployment", "spec: {replicas: 2}"), ("RUST_LOG", "debug")]);
        let patches = patches.expect("read");
        assert_eq!(patches.0.len(), 1);
        assert!(!patches.autoscales());
        let wrong = read(&[("service", "- a"), ("deployment", "a: [")]).expect_err("wrong");
        assert!(wrong.contains("service: it is no YAML object"), "{wrong}");
        assert!(wrong.contains("deployment: "), "{wrong}");
    }

    #[test]
    fn what_an_object_is_stays() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "w", "namespace": "a", "ownerReferences": [{"uid": "g"}],
                "labels": {"app.kubernetes.io/managed-by": "ambit-control", "x": "1"},
            },
            "spec": {"selector": {"matchLabels": {"w": "w"}}},
        });
        let patch = "kind: Job\nmetadata: {name: v, namespace: b, ownerReferences: [], labels: null}\n\
                     spec: {selector: {matchLabels: {v: v}}, replicas: 3}\n";
        let patched = read(&[("deployment", patch)]).expect("read");
        let patched = patched.apply("deployment", object.clone());
        let mut expected = object;
        expected["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "ambit-control"});
        expected["spec"]["replicas"] = json!(3);
        assert_eq!(patched, expected);
    }

    #[test]
    fn only_config_maps_are_named() {
        let named = |reference: Value| {
            let gateway = json!({
                "metadata": {"name": "w"},
                "spec": {"gatewayClassName": "c", "infrastructure": {"parametersRef": reference}},
            });
            let gateway: Gateway = serde_json::from_value(gateway).expect("a Gateway");
            named(&gateway).map(|name| name.map(str::to_owned))
        };
        assert_eq!(named(Value::Null), Ok(None));
        let map = json!({"group": "", "kind": "ConfigMap", "name": "m"});
        assert_eq!(named(map), Ok(Some("m".to_owned())));
        for other in [
            json!({"group": "apps", "kind": "ConfigMap", "name": "m"}),
            json!({"group": "", "kind": "Secret", "name": "m"}),
            json!({"group": "", "kind": "ConfigMap"}),
        ] {
            assert!(named(other.clone()).is_err(), "{other}");
        }
    }
}
