//! JSON Web Tokens, with keys in the object and with keys that are fetched.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ambit_lab::harness::Lab;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::nginx::nginx;
use super::scene::{CLIENT, lab};
use super::told::line;
use crate::fixtures::namespace;

const ISSUER: &str = "https://issuer.example";

/// A key of the issuer.
struct Signer {
    kid: &'static str,
    key: EncodingKey,
    /// As a key set has it.
    public: Value,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        // An uncompressed point (SEC 1, section 2.3.3).
        let point = pair.der_bytes();
        let half = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        Self {
            kid,
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            public: json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": half(1), "y": half(33)}),
        }
    }

    /// A token with the usual claims, and with these instead or besides.
    fn token(&self, other: &Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": ["shop"], "sub": "ann", "exp": at(600), "groups": ["user"],
        });
        for (name, value) in other.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let header = Header {
            kid: Some(self.kid.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &claims, &self.key).expect("a token")
    }
}

/// Seconds of the Unix epoch, so long from now.
fn at(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs().cast_signed() + seconds
}

fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<&Value> = signers.iter().map(|it| &it.public).collect();
    json!({ "keys": keys }).to_string()
}

fn authentication(service: &str, keys: &str, more: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: {service}, namespace: mesh}}\nspec:\n  \
         targetRefs: [{{kind: Service, group: \"\", name: {service}}}]\n  \
         jwtRules:\n  - issuer: {ISSUER}\n    audiences: [shop]\n    {keys}\n{more}"
    )
}

/// A token with a MAC whose secret is what everybody knows: the key that signatures are verified with.
fn confused(signer: &Signer) -> String {
    let claims = json!({"iss": ISSUER, "aud": "shop", "sub": "root", "exp": at(600)});
    let header = Header {
        kid: Some(signer.kid.to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let secret = EncodingKey::from_secret(signer.public.to_string().as_bytes());
    jsonwebtoken::encode(&header, &claims, &secret).expect("a token")
}

/// A token that brings the key it is signed with, and names it as the issuer's.
fn injected(signer: &Signer) -> String {
    let claims = json!({"iss": ISSUER, "aud": "shop", "sub": "root", "exp": at(600)});
    let header = Header {
        kid: Some(format!("../{}", signer.kid)),
        jku: Some("http://192.0.2.1/keys".to_owned()),
        jwk: serde_json::from_value(signer.public.clone()).ok(),
        ..Header::new(Algorithm::ES256)
    };
    assert!(header.jwk.is_some(), "{}", signer.public);
    jsonwebtoken::encode(&header, &claims, &signer.key).expect("a token")
}

fn bearing(lab: &Lab, url: &str, token: &str) -> Answer {
    let call = Call::get(CLIENT, url);
    call.header("authorization", &format!("Bearer {token}"))
        .answer(lab)
}

fn refused(answer: &Answer, name: &str) {
    assert_eq!(answer.status, 401, "{name}: {answer:?}");
    assert_eq!(answer.server(), "", "{name}");
    let challenge = answer.header("www-authenticate");
    assert_eq!(
        challenge.as_deref(),
        Some("Bearer error=\"invalid_token\""),
        "{name}"
    );
}

#[test]
fn a_token_is_good_or_refused() {
    let lab = lab();
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    let inline = format!("jwks: '{}'", key_set(&[&signer]));
    let edits = "    outputClaimToHeaders: [{header: x-user, claim: sub}]\n";
    lab.apply(&authentication("v1", &inline, edits));
    let good = signer.token(&json!({}));

    let answer = bearing(&lab, "v1.mesh/", &good);
    assert_eq!(answer.server(), "v1", "{answer:?}");
    assert_eq!(answer.sent("x-user").as_deref(), Some("ann"));
    assert_eq!(answer.sent("authorization"), None, "it goes no further");
    // Without a token nobody is anybody.
    let call = Call::get(CLIENT, "v1.mesh/").header("x-user", "root");
    assert_eq!(call.answer(&lab).sent("x-user"), None);
    // Nor where nobody looks for one.
    let free = bearing(&lab, "v2.mesh/", "no token");
    assert_eq!(
        free.sent("authorization").as_deref(),
        Some("Bearer no token")
    );

    let mut parts: Vec<&str> = good.split('.').collect();
    let root = URL_SAFE_NO_PAD
        .encode(json!({"iss": ISSUER, "aud": "shop", "sub": "root", "exp": at(600)}).to_string());
    parts[1] = &root;
    let changed = parts.join(".");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"one"}"#);
    for (name, token) in [
        ("another's signature", other.token(&json!({}))),
        ("another's key", Signer::new("two").token(&json!({}))),
        (
            "another issuer",
            signer.token(&json!({"iss": "https://other.example"})),
        ),
        ("another audience", signer.token(&json!({"aud": ["books"]}))),
        ("expired", signer.token(&json!({"exp": at(-600)}))),
        ("not valid yet", signer.token(&json!({"nbf": at(600)}))),
        ("other claims", changed),
        ("no algorithm", format!("{none}.{root}.")),
        ("no token", "token".to_owned()),
        ("signed with the public key", confused(&signer)),
        ("a key of its own", injected(&other)),
        ("just expired", signer.token(&json!({"exp": at(-90)}))),
        ("not quite valid yet", signer.token(&json!({"nbf": at(90)}))),
    ] {
        let path = format!("v1.mesh/{}", name.replace([' ', '\''], "-"));
        refused(&bearing(&lab, &path, &token), name);
    }
    // Clocks differ a little.
    for claims in [json!({"exp": at(-20)}), json!({"nbf": at(20)})] {
        let answer = bearing(&lab, "v1.mesh/", &signer.token(&claims));
        assert_eq!(answer.status, 200, "{claims}: {answer:?}");
    }
    let twice = Call::get(CLIENT, "v1.mesh/").header("authorization", &format!("Bearer {good}"));
    let twice = twice.header("authorization", &format!("Bearer {good}"));
    refused(&twice.answer(&lab), "two tokens");
    let told = line(&lab, &["/expired ", "\" 401 "]);
    assert!(told.contains("expired"), "{told}");
}

#[test]
fn policies_judge_by_the_token() {
    let lab = lab();
    let signer = Signer::new("one");
    let inline = format!("jwks: '{}'", key_set(&[&signer]));
    let policy = format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: tokens, namespace: mesh}}\nspec:\n  \
         targetRefs: [{{kind: Service, group: \"\", name: v1}}]\n  action: ALLOW\n  rules:\n  \
         - from: [{{source: {{requestPrincipals: [\"{ISSUER}/*\"]}}}}]\n    \
           to: [{{operation: {{paths: [/any]}}}}]\n  \
         - to: [{{operation: {{paths: [/admin]}}}}]\n    \
           when: [{{key: \"request.auth.claims[groups]\", values: [admin]}}]\n"
    );
    lab.apply(&(authentication("v1", &inline, "    forwardOriginalToken: true\n") + &policy));
    let user = signer.token(&json!({}));
    let admin = signer.token(&json!({"groups": ["user", "admin"]}));
    for (token, path, status) in [
        (&user, "/any", 200),
        (&user, "/admin", 403),
        (&user, "/other", 403),
        (&admin, "/any", 200),
        (&admin, "/admin", 200),
    ] {
        let answer = bearing(&lab, &format!("v1.mesh{path}"), token);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        if status == 200 {
            let sent = answer.sent("authorization");
            assert_eq!(sent, Some(format!("Bearer {token}")), "it was to be kept");
        }
    }
    for path in ["/any", "/admin"] {
        let answer = Call::get(CLIENT, &format!("v1.mesh{path}")).answer(&lab);
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
    }
}

/// What only the waypoint itself or the cloud's machines should reach is not asked for keys.
#[test]
fn keys_are_not_fetched_from_where_the_waypoint_alone_may_go() {
    let lab = lab();
    let signer = Signer::new("one");
    for (at, host) in ["127.0.0.1:15020", "[::1]", "169.254.169.254", "localhost"]
        .iter()
        .enumerate()
    {
        let uri = format!("jwksUri: http://{host}/keys");
        let said = lab.try_apply(&authentication("v1", &uri, ""));
        assert!(said.to_string().contains("jwksUri"), "{host}: {said}");
        let path = format!("v1.mesh/local-{at}");
        refused(&bearing(&lab, &path, &signer.token(&json!({}))), host);
    }
}

/// Keys come from a service of the mesh, also those that are new, and stay when the service goes.
#[test]
fn keys_are_fetched_and_follow_their_issuer() {
    let folder = tempfile::tempdir().expect("a folder");
    // The server is no root.
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).expect("a folder of ours");
    let publish = |signers: &[&Signer]| {
        let next = folder.path().join("next");
        std::fs::write(&next, key_set(signers)).expect("a file");
        std::fs::rename(next, folder.path().join("keys")).expect("a file");
    };
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    publish(&[&first]);
    let lab = lab();
    lab.apply(
        &(namespace("issuer", "istio.io/dataplane-mode: ambient") + &keys_server(folder.path())),
    );
    let uri = "jwksUri: http://keys.issuer.svc.cluster.local/keys";
    let nobody = "jwksUri: http://nobody.issuer.svc.cluster.local/keys";
    lab.apply(&(authentication("v1", uri, "") + &authentication("v2", nobody, "")));

    let status = |signer: &Signer| bearing(&lab, "v1.mesh/", &signer.token(&json!({}))).status;
    assert_eq!(status(&first), 200, "the first request waits for the keys");
    assert_eq!(status(&first), 200);
    publish(&[&second]);
    assert_eq!(
        status(&second),
        200,
        "a key that is not known is looked for"
    );
    assert_eq!(
        status(&first),
        401,
        "a key that is withdrawn is not believed"
    );
    lab.delete("---\napiVersion: v1\nkind: Pod\nmetadata: {name: keys, namespace: issuer}\n");
    assert_eq!(status(&second), 200, "the last keys serve");

    let answer = bearing(&lab, "v2.mesh/nobody", &second.token(&json!({})));
    refused(&answer, "no keys");
    let told = line(&lab, &["/nobody ", "\" 401 "]);
    assert!(told.contains("keys"), "{told}");
}

fn keys_server(folder: &Path) -> String {
    let server = format!(
        "listen 8080; listen [::]:8080;\nlocation = /keys {{ default_type application/json; alias {}/keys; }}",
        folder.display()
    );
    nginx("issuer", "keys", 8080, &server, &[])
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: keys, namespace: issuer}\n\
           spec: {selector: {app: keys}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"
}
