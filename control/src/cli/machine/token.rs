//! Tokens that the key of an issuer signs, where no API server does.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::tokens::user_of;

/// What a token says.
pub(super) struct Claims<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    /// How long it is good, from now.
    pub(super) seconds: u64,
}

/// A token of a service account that is bound to no pod.
///
/// # Errors
/// The key (PEM) is none that signs.
pub(super) fn sign(claims: &Claims<'_>, key: &str, id: Option<&str>) -> Result<String, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.unwrap_or_default().as_secs();
    let claims = json!({
        "iss": claims.issuer,
        "aud": [claims.audience],
        "sub": user_of(claims.namespace, claims.account),
        "iat": now,
        "nbf": now,
        "exp": now + claims.seconds,
    });
    let (ec, rsa) = (
        EncodingKey::from_ec_pem(key.as_bytes()),
        EncodingKey::from_rsa_pem(key.as_bytes()),
    );
    let candidates = [
        (Algorithm::ES256, ec.as_ref()),
        (Algorithm::ES384, ec.as_ref()),
        (Algorithm::RS256, rsa.as_ref()),
    ];
    let mut signed = candidates.into_iter().filter_map(|(algorithm, key)| {
        let header = Header {
            kid: id.map(str::to_owned),
            ..Header::new(algorithm)
        };
        encode(&header, &claims, key.ok()?).ok()
    });
    let none = "it is no private key of EC (P-256, P-384) or RSA, PEM (PKCS #8)";
    signed.next().ok_or_else(|| none.to_owned())
}
