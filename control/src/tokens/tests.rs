//! Tokens that hold and tokens that do not.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

struct Issuer {
    dir: TempDir,
    key: EncodingKey,
}

pub(super) fn jwk(key: &KeyPair, id: &str) -> Value {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    // An uncompressed point: 4, x, y.
    let point = key.der_bytes();
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
        "x": encode(&point[1..33]), "y": encode(&point[33..65])})
}

impl Issuer {
    fn new() -> (Self, Tokens) {
        let dir = tempfile::tempdir().expect("a folder");
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let issuer = Self {
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            dir,
        };
        issuer.publish(&[jwk(&pair, "one")]);
        let keys = Keys::read(issuer.dir.path().join("jwks.json")).expect("read");
        let tokens = Tokens::new(
            keys,
            "https://issuer".to_owned(),
            vec!["istio-ca".to_owned()],
        );
        (issuer, tokens)
    }

    /// As a tool does that replaces a file: the new one has another inode.
    fn publish(&self, keys: &[Value]) {
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, json!({"keys": keys}).to_string()).expect("written");
        std::fs::rename(draft, self.dir.path().join("jwks.json")).expect("renamed");
    }

    fn sign(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = id.map(str::to_owned);
        encode(&header, claims, &self.key).expect("signed")
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer",
        "aud": ["istio-ca"],
        "sub": "system:serviceaccount:ambit-system:ztunnel",
        "exp": now() + 600,
        "nbf": now(),
        "kubernetes.io": {
            "namespace": "ambit-system",
            "serviceaccount": {"name": "ztunnel", "uid": "s"},
            "pod": {"name": "ztunnel-1", "uid": "p"},
            "node": {"name": "node-1"},
        },
    })
}

#[test]
fn a_good_token_names_account_pod_and_node() {
    let (issuer, tokens) = Issuer::new();
    let caller = tokens
        .verify(&issuer.sign(Some("one"), &claims()))
        .expect("holds");
    assert_eq!(caller.account(), "ambit-system/ztunnel");
    assert_eq!(caller.node.as_deref(), Some("node-1"));
    assert_eq!(
        caller.pod.map(|pod| pod.name.to_string()),
        Some("ztunnel-1".to_owned())
    );
    tokens
        .verify(&issuer.sign(None, &claims()))
        .expect("the only key needs no id");
}

#[test]
fn bad_claims() {
    let (issuer, tokens) = Issuer::new();
    let cases: &[(&str, &str, Value)] = &[
        ("other issuer", "/iss", json!("https://other")),
        ("other audience", "/aud", json!(["api"])),
        ("expired", "/exp", json!(now() - 3600)),
        ("not yet", "/nbf", json!(now() + 3600)),
        ("a user", "/sub", json!("alice")),
        (
            "no name",
            "/sub",
            json!("system:serviceaccount:ambit-system:"),
        ),
        (
            "another account than its claims",
            "/sub",
            json!("system:serviceaccount:ambit-system:other"),
        ),
        (
            "another namespace than its claims",
            "/kubernetes.io/namespace",
            json!("other"),
        ),
    ];
    for (name, pointer, value) in cases {
        let mut claims = claims();
        *claims.pointer_mut(pointer).expect("a claim") = value.clone();
        let result = tokens.verify(&issuer.sign(Some("one"), &claims));
        assert!(result.is_err(), "{name}: {result:?}");
    }
    for missing in ["iss", "aud", "exp", "sub"] {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").remove(missing);
        assert!(
            tokens.verify(&issuer.sign(Some("one"), &claims)).is_err(),
            "no {missing}"
        );
    }
}

#[test]
fn bad_signatures() {
    let (issuer, tokens) = Issuer::new();
    let good = issuer.sign(Some("one"), &claims());
    let (stranger, _) = Issuer::new();
    let forged = stranger.sign(Some("one"), &claims());
    assert!(matches!(
        tokens.verify(&forged),
        Err(TokenError::Invalid(_))
    ));
    let unknown = issuer.sign(Some("two"), &claims());
    assert!(matches!(
        tokens.verify(&unknown),
        Err(TokenError::UnknownKey(..))
    ));
    let symmetric = encode(
        &Header::new(Algorithm::HS256),
        &claims(),
        &EncodingKey::from_secret(b"x"),
    )
    .expect("signed");
    assert_eq!(
        tokens.verify(&symmetric),
        Err(TokenError::Algorithm(Algorithm::HS256))
    );
    let body = good.split('.').nth(1).expect("three parts");
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{body}.");
    assert!(tokens.verify(&none).is_err());
    for broken in ["", "a.b", "a.b.c", &good[..good.len() - 8]] {
        assert!(tokens.verify(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn keys_are_read_again_and_a_broken_file_changes_nothing() {
    let (issuer, tokens) = Issuer::new();
    let old = issuer.sign(Some("one"), &claims());
    tokens.verify(&old).expect("holds");
    std::fs::write(issuer.dir.path().join("jwks.json"), "{").expect("written");
    tokens.verify(&old).expect("the former keys stay");
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    issuer.publish(&[jwk(&pair, "two")]);
    assert!(tokens.verify(&old).is_err(), "its key is gone");
    let new = Issuer {
        dir: tempfile::tempdir().expect("a folder"),
        key: EncodingKey::from_ec_der(&pair.serialize_der()),
    };
    tokens
        .verify(&new.sign(Some("two"), &claims()))
        .expect("holds");
}

#[test]
fn the_header_carries_exactly_one_bearer_token() {
    let (issuer, tokens) = Issuer::new();
    let token = issuer.sign(Some("one"), &claims());
    let metadata = |values: &[String]| {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append("authorization", value.parse().expect("ASCII"));
        }
        metadata
    };
    let authenticate = |values: &[String]| tokens.verify(bearer(&metadata(values))?);
    authenticate(&[format!("Bearer {token}")]).expect("holds");
    authenticate(&[format!("bearer {token}")]).expect("holds");
    assert_eq!(authenticate(&[]), Err(TokenError::Missing));
    assert_eq!(
        authenticate(&[format!("Basic {token}")]),
        Err(TokenError::Missing)
    );
    assert_eq!(
        authenticate(std::slice::from_ref(&token)),
        Err(TokenError::Missing)
    );
    let twice = [format!("Bearer {token}"), format!("Bearer {token}")];
    assert_eq!(authenticate(&twice), Err(TokenError::Malformed));
    let error = authenticate(&["Bearer x.y.z".to_owned()]).expect_err("refused");
    assert!(!error.to_string().contains("x.y.z"));
}
