//! Object metadata: identities, time, owners, selectors.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, ObjectMeta, OwnerReference, Time,
};
use k8s_openapi::jiff::Timestamp;
use rand::Rng;

/// What Kubernetes makes generated names of: no vowels, so no words.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The present, in whole seconds as Kubernetes writes it.
#[must_use]
pub fn now() -> Time {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A new object's identity, a random UUID.
#[must_use]
pub fn new_uid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// The random end of a generated name.
#[must_use]
pub fn random_suffix(length: usize) -> String {
    let mut random = rand::rng();
    let mut letter = || char::from(SUFFIX_LETTERS[random.random_range(0..SUFFIX_LETTERS.len())]);
    (0..length).map(|_| letter()).collect()
}

/// A reference to the object that an object is made by and goes with.
#[must_use]
pub fn owner_reference(version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `object` was made by `owner`.
#[must_use]
pub fn controlled_by(object: &ObjectMeta, owner: &ObjectMeta) -> bool {
    let references = object.owner_references.iter().flatten();
    let mut uids = references
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| &owner.uid);
    owner
        .uid
        .as_ref()
        .is_some_and(|uid| uids.any(|owner| owner == uid))
}

/// Whether a label selector chooses `labels`. An empty selector chooses everything.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let exact = selector.match_labels.iter().flatten();
    exact
        .into_iter()
        .all(|(key, value)| label(key) == Some(value))
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|expression| {
                let value = label(&expression.key);
                let listed =
                    |value: &String| expression.values.iter().flatten().any(|v| v == value);
                match expression.operator.as_str() {
                    "In" => value.is_some_and(listed),
                    "NotIn" => !value.is_some_and(listed),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_choose_by_labels() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        for (selector, chosen) in [
            ("{}", true),
            (r#"{"matchLabels":{"app":"web"}}"#, true),
            (r#"{"matchLabels":{"app":"db"}}"#, false),
            (r#"{"matchLabels":{"app":"web","tier":"x"}}"#, false),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"In","values":["a","web"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"tier","operator":"NotIn","values":["x"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"tier","operator":"Exists"}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"tier","operator":"DoesNotExist"}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"Near"}]}"#,
                false,
            ),
        ] {
            let parsed: LabelSelector = serde_json::from_str(selector).expect("a selector");
            assert_eq!(matches(&parsed, Some(&labels)), chosen, "{selector}");
        }
    }

    #[test]
    fn uids_are_version_4() {
        let uid = new_uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(&uid[14..15], "4");
    }
}
