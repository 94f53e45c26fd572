//! What stands for a policy of which no version could be read: a mistake in it must not open what it was
//! written to close.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Readable;
use crate::source::istio::{
    AuthorizationPolicy, AuthorizationPolicySpec, MutualTls, PeerAuthentication,
    PeerAuthenticationSpec, Rule,
};
use crate::source::object::{Kind, Object};

#[derive(Deserialize)]
struct Policy {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    generation: Option<i64>,
}

/// An AuthorizationPolicy that denies everything, or a PeerAuthentication that wants mutual TLS, for what the unreadable
/// one selects; for its whole namespace when that cannot be read either. `None` for other kinds. `why` is what is wrong with it.
pub(super) fn instead(kind: Kind, from: &impl Readable, why: &str) -> Option<Object> {
    if !matches!(kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication) {
        return None;
    }
    let Policy { metadata, spec } = from.read().ok()?;
    let metadata = ObjectMeta {
        name: Some(metadata.name),
        namespace: metadata.namespace,
        generation: metadata.generation,
        ..ObjectMeta::default()
    };
    let selector = field(&spec, "selector");
    Some(if kind == Kind::AuthorizationPolicy {
        Object::AuthorizationPolicy(Arc::new(AuthorizationPolicy {
            metadata,
            spec: AuthorizationPolicySpec {
                selector,
                target_ref: field(&spec, "targetRef"),
                target_refs: field(&spec, "targetRefs").unwrap_or_default(),
                action: Some("DENY".to_owned()),
                rules: vec![Rule::default()],
                ..AuthorizationPolicySpec::default()
            },
            unreadable: Some(why.to_owned()),
        }))
    } else {
        Object::PeerAuthentication(Arc::new(PeerAuthentication {
            metadata,
            spec: PeerAuthenticationSpec {
                selector,
                mtls: Some(MutualTls {
                    mode: Some("STRICT".to_owned()),
                }),
                ..PeerAuthenticationSpec::default()
            },
        }))
    })
}

fn field<T: DeserializeOwned>(spec: &Value, name: &str) -> Option<T> {
    T::deserialize(spec.get(name)?).ok()
}
