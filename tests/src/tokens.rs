//! The lab's issuer of service account tokens: what a cluster's API server signs and control checks.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::api::core::v1::Pod;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};
use thiserror::Error;

use crate::api::{Key, Store};

/// Who issues the tokens, and the audience of tokens for the API server.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The audience that the mesh's control plane asks for.
pub const MESH_AUDIENCE: &str = "istio-ca";
const KEY_ID: &str = "lab";

/// A token that cannot be made.
#[derive(Debug, Error)]
pub enum TokenError {
    /// No signing key.
    #[error("cannot make the issuer's key: {0}")]
    Key(#[from] rcgen::Error),
    /// No signature.
    #[error("cannot sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Signs tokens.
pub struct Issuer {
    key: EncodingKey,
    key_set: Value,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Issuer")
            .field("keys", &self.key_set)
            .finish_non_exhaustive()
    }
}

/// Whom a token speaks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub account: String,
    /// The account's identity.
    pub account_uid: String,
    /// The pod.
    pub pod: String,
    /// The pod's identity.
    pub pod_uid: String,
    /// The pod's node.
    pub node: String,
    /// The node's identity.
    pub node_uid: String,
}

impl Subject {
    /// The subject that the kubelet asks a token for on behalf of `pod`.
    #[must_use]
    pub fn of_pod(store: &Store, pod: &Pod) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let node = spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default();
        let account_object = store.service_accounts.get(&Key::new(&namespace, &account));
        let node_object = store.nodes.get(&Key::new("", &node));
        Self {
            account_uid: account_object
                .and_then(|it| it.metadata.uid.clone())
                .unwrap_or_default(),
            node_uid: node_object
                .and_then(|it| it.metadata.uid.clone())
                .unwrap_or_default(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            namespace,
            account,
            node,
        }
    }
}

impl Issuer {
    /// An issuer with a new key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self, TokenError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // An uncompressed point: a tag, then both coordinates.
        let (x, y) = pair.der_bytes()[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key_set = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": encode(x), "y": encode(y),
        }]});
        Ok(Self {
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            key_set,
        })
    }

    /// The public keys, as a JSON web key set.
    #[must_use]
    pub fn key_set(&self) -> &Value {
        &self.key_set
    }

    /// A token for `audience`, valid for `seconds` from now.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn issue(
        &self,
        subject: &Subject,
        audience: &str,
        seconds: i64,
    ) -> Result<String, TokenError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let header = Header {
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        let mut claims = json!({
            "iss": ISSUER,
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "sub": format!("system:serviceaccount:{}:{}", subject.namespace, subject.account),
            "kubernetes.io": {
                "namespace": subject.namespace,
                "serviceaccount": {"name": subject.account, "uid": subject.account_uid},
            },
        });
        // Who asks for a token of the account alone has one that is bound to nothing.
        if !subject.pod.is_empty() || !subject.node.is_empty() {
            let bound = &mut claims["kubernetes.io"];
            bound["pod"] = json!({"name": subject.pod, "uid": subject.pod_uid});
            bound["node"] = json!({"name": subject.node, "uid": subject.node_uid});
        }
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn the_published_key_verifies_a_token() {
        let issuer = Issuer::new().expect("a key");
        let subject = Subject {
            namespace: "shop".to_owned(),
            account: "web".to_owned(),
            node: "node-1".to_owned(),
            ..Subject::default()
        };
        let token = issuer.issue(&subject, MESH_AUDIENCE, 60).expect("a token");
        let keys: JwkSet = serde_json::from_value(issuer.key_set().clone()).expect("a key set");
        let key = DecodingKey::from_jwk(keys.find(KEY_ID).expect("the key")).expect("a usable key");
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[MESH_AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        let claims = decode::<Value>(&token, &key, &validation)
            .expect("valid")
            .claims;
        assert_eq!(claims["sub"], "system:serviceaccount:shop:web");
        assert_eq!(claims["kubernetes.io"]["node"]["name"], "node-1");
        validation.set_audience(&["other"]);
        assert!(decode::<Value>(&token, &key, &validation).is_err());
    }
}
