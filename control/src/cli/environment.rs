//! What a part of the installation is told: the variables of its container, as the objects of the cluster have them.

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};

/// A container of a template.
pub(super) fn container<'a>(template: &'a PodTemplateSpec, name: &str) -> Option<&'a Container> {
    let containers = template.spec.iter().flat_map(|it| &it.containers);
    containers.into_iter().find(|it| it.name == name)
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
