//! A container's environment: plain values, fields of the pod, keys of config maps and secrets, and
//! `$(NAME)` references to what came before.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use crate::api::{Key, Store};

/// What every program of this machine needs to be found and to work.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH"];

/// The variables of `container`.
///
/// # Errors
/// The variable that refers to something that is not there.
pub(super) fn of_container(
    store: &Store,
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, String>, String> {
    let mut env: BTreeMap<String, String> = INHERITED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let hostname = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let name = hostname
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    env.insert("HOSTNAME".to_owned(), name);
    env.extend(api_server(store));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (data, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), _) => (config_map(store, namespace, &map.name), map.optional),
            (_, Some(secret)) => (
                self::secret(store, namespace, &secret.name),
                secret.optional,
            ),
            _ => continue,
        };
        match data {
            Some(data) => env.extend(
                data.into_iter()
                    .map(|(key, it)| (format!("{prefix}{key}"), it)),
            ),
            None if optional == Some(true) => {}
            None => return Err("envFrom names a config map or secret that is not there".to_owned()),
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match value(store, pod, namespace, variable) {
            Ok(Some(value)) => expand(&value, &env),
            Ok(None) => continue,
            Err(error) => return Err(format!("env {}: {error}", variable.name)),
        };
        env.insert(variable.name.clone(), value);
    }
    Ok(env)
}

/// Where a client finds the API server, if there is one.
fn api_server(store: &Store) -> BTreeMap<String, String> {
    let service = store.services.get(&Key::new("default", "kubernetes"));
    let spec = service.and_then(|service| service.spec.as_ref());
    let address = spec.and_then(|spec| spec.cluster_ip.clone());
    let port = spec.and_then(|spec| Some(spec.ports.as_ref()?.first()?.port.to_string()));
    let variables = [
        ("KUBERNETES_SERVICE_HOST", address),
        ("KUBERNETES_SERVICE_PORT", port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port),
    ];
    let known = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

fn value(
    store: &Store,
    pod: &Pod,
    namespace: &str,
    variable: &EnvVar,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(variable.value.clone().unwrap_or_default()));
    };
    if let Some(reference) = &source.field_ref {
        return field(pod, &reference.field_path).map(Some);
    }
    let (what, name, key, data, optional) = if let Some(reference) = &source.config_map_key_ref {
        let data = config_map(store, namespace, &reference.name);
        (
            "config map",
            &reference.name,
            &reference.key,
            data,
            reference.optional,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let data = secret(store, namespace, &reference.name);
        (
            "secret",
            &reference.name,
            &reference.key,
            data,
            reference.optional,
        )
    } else {
        return Err("the lab has no such source of values".to_owned());
    };
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("{what} {name:?} with key {key:?} not found")),
    }
}

/// A field of the pod, by the paths that Kubernetes allows.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
    let status = pod.status.as_ref();
    let map = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned()
    };
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    let found = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" => status.and_then(|status| status.pod_ip.clone()),
        "status.hostIP" => status.and_then(|status| status.host_ip.clone()),
        "status.podIPs" => status
            .and_then(|status| status.pod_ips.as_ref())
            .map(|ips| {
                ips.iter()
                    .map(|ip| ip.ip.as_str())
                    .collect::<Vec<_>>()
                    .join(",")
            }),
        _ => match (keyed("metadata.labels['"), keyed("metadata.annotations['")) {
            (Some(key), _) => Some(map(&metadata.labels, key).unwrap_or_default()),
            (_, Some(key)) => Some(map(&metadata.annotations, key).unwrap_or_default()),
            _ => return Err(format!("fieldPath {path:?} is not supported")),
        },
    };
    Ok(found.unwrap_or_default())
}

/// Replaces `$(NAME)` by variables; what is unknown stays, and `$$` is one dollar.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest
            .strip_prefix("$(")
            .and_then(|after| after.split_once(')'));
        match reference.and_then(|(name, after)| Some((env.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn config_map(store: &Store, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let map = store.config_maps.get(&Key::new(namespace, name))?;
    Some(map.data.clone().unwrap_or_default())
}

fn secret(store: &Store, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let secret = store.secrets.get(&Key::new(namespace, name))?;
    let encoded = secret.data.iter().flatten();
    let mut data: BTreeMap<String, String> = encoded
        .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
        .collect();
    data.extend(secret.string_data.clone().unwrap_or_default());
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expanded) in [
            ("plain", "plain"),
            ("x$(A)y", "x1y"),
            ("$(A)$(A)", "11"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &env), expanded, "{text}");
        }
    }

    #[test]
    fn fields_of_the_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": "web"}},
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        }))
        .expect("a pod");
        for (path, value) in [
            ("metadata.name", Ok("a")),
            ("metadata.labels['app']", Ok("web")),
            ("metadata.labels['none']", Ok("")),
            ("spec.nodeName", Ok("node-1")),
            ("status.podIPs", Ok("10.0.0.1,fd00::1")),
            ("spec.containers", Err(())),
        ] {
            assert_eq!(
                field(&pod, path).as_deref().map_err(|_| ()),
                value,
                "{path}"
            );
        }
    }
}
