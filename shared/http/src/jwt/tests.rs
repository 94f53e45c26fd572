use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::model::{JwtRule, RequestAuthentication, TokenSource};

mod claims;
mod edits;
mod keys;
mod ring;
mod tokens;
mod urls;

/// When the tests happen.
const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A signature that [`Fake`] takes for the key of this name.
fn signature(kid: &str) -> String {
    format!("signed by {kid}")
}

/// Takes `signed by KID` over anything.
struct Fake;

impl Verifier for Fake {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, _: &[u8], found: &[u8]) -> bool {
        assert!(key.fits(algorithm), "asked to mix up key and algorithm");
        let kid = key.kid.as_deref().unwrap_or("nobody");
        found == signature(kid).as_bytes()
    }
}

/// The same set for every source.
struct Known(Result<Arc<Jwks>, String>);

impl Keys for Known {
    fn keys(&self, _: &KeySource) -> Result<Arc<Jwks>, String> {
        self.0.clone()
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(kid: &str) -> Value {
    let mut n = vec![0x80; 256];
    n[255] = 1;
    json!({"kty": "RSA", "kid": kid, "n": b64(n), "e": "AQAB"})
}

fn ec(kid: &str) -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64([1; 32]), "y": b64([2; 32])})
}

fn ed(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64([3; 32])})
}

fn set(keys: Vec<Value>) -> Result<Jwks, JwksError> {
    Jwks::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn known() -> Known {
    let keys = vec![rsa("r1"), ec("e1"), ed("d1")];
    Known(Ok(Arc::new(set(keys).expect("a set"))))
}

fn good_claims() -> Value {
    json!({"iss": "issuer", "sub": "alice", "aud": "api", "exp": NOW + 300})
}

fn signed(header: Value, claims: Value, signer: &str) -> String {
    format!(
        "{}.{}.{}",
        b64(header.to_string()),
        b64(claims.to_string()),
        b64(signature(signer))
    )
}

fn good() -> String {
    signed(json!({"alg": "RS256", "kid": "r1"}), good_claims(), "r1")
}

fn rule() -> JwtRule {
    JwtRule {
        issuer: "issuer".into(),
        audiences: vec!["api".into()],
        keys: KeySource::Url("https://issuer.example/keys".into()),
        sources: Vec::new(),
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
    }
}

fn authentication(rules: Vec<JwtRule>) -> RequestAuthentication {
    RequestAuthentication {
        key: "ns/jwt".parse().expect("a name"),
        targets: Vec::new(),
        rules,
        undecodable: None,
    }
}

fn from_header(name: &'static str, prefix: &str) -> TokenSource {
    TokenSource::Header {
        name: HeaderName::from_static(name),
        prefix: prefix.into(),
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_str(value).expect("a value");
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

fn judge(
    rules: Vec<JwtRule>,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Option<Authenticated>, Rejection> {
    let request = TokenRequest { headers, query };
    authenticate(&[authentication(rules)], &request, &known(), &Fake, now())
}

/// The reason of a refusal, `none` without a token, else the principal.
fn outcome(result: Result<Option<Authenticated>, Rejection>) -> String {
    match result {
        Ok(None) => "none".into(),
        Ok(Some(found)) => found.claims.principal().unwrap_or_default(),
        Err(rejection) => {
            assert_eq!(rejection.refusal.status, 401);
            rejection.refusal.reason
        }
    }
}
