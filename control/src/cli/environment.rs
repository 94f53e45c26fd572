//! What a part of the installation is told: the variables of its container, as the objects of the cluster have them.

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
#[cfg(test)]
use serde_json::{Value, json};

/// A container of a template.
///
/// # Errors
/// There is none of this name.
pub(super) fn container<'a>(
    template: Option<&'a PodTemplateSpec>,
    name: &str,
) -> Result<&'a Container, String> {
    let pod = template.and_then(|it| it.spec.as_ref());
    let mut containers = pod.into_iter().flat_map(|it| &it.containers);
    let found = containers.find(|it| it.name == name);
    found.ok_or_else(|| format!("it has no container {name}"))
}

/// The value of a variable: of several with a name the last one holds, and an empty value is not written. None without one.
///
/// # Errors
/// It is not written there, but where it comes from.
pub(super) fn variable<'a>(
    container: &'a Container,
    name: &str,
) -> Result<Option<&'a str>, String> {
    let all = container.env.as_deref().unwrap_or_default();
    let Some(found) = all.iter().rfind(|it| it.name == name) else {
        return match container.env_from.as_deref().unwrap_or_default() {
            [] => Ok(None),
            _ => Err(format!("{name} may be taken from elsewhere (envFrom)")),
        };
    };
    if found.value_from.is_some() {
        return Err(format!("{name} is taken from elsewhere (valueFrom)"));
    }
    let value = found.value.as_deref().unwrap_or_default();
    // The kubelet puts other variables in, and makes one dollar of two.
    if value.contains('$') {
        return Err(format!("{name} is taken from elsewhere ({value:?})"));
    }
    Ok(Some(value))
}

/// An object of the installation for tests: the container has these variables, another before it the trust domain `other.example`.
#[cfg(test)]
pub(super) fn of_part(kind: &str, name: &str, container: &str, env: &Value) -> Value {
    let other =
        json!({"name": "other", "env": [{"name": "TRUST_DOMAIN", "value": "other.example"}]});
    let told = json!({"name": container, "env": env});
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ambit-system"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [other, told]}}},
    })
}
