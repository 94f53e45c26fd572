//! No bytes are a good token unless a key of the issuer that fits the algorithm says so.
//!
//! The input is text: the header and the payload of a token, its signature and where it is sent (`bearer`, `x-jwt`,
//! `cookie`, else the query), one a line. A first line that is no JSON object is the token itself.
#![no_main]

use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_http::jwt::{
    Algorithm, Authenticated, Jwk, Jwks, Keys, Rejection, TokenRequest, Verifier, authenticate,
    sanitise,
};
use ambit_http::model::{JwtRule, KeySource, RequestAuthentication, TokenSource};
use ambit_http::path::{CanonicalPath, canonical};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(mut sent) = Sent::parse(text) else {
        return;
    };
    let no = Judge {
        answer: false,
        asked: Cell::new(0),
    };
    assert!(
        matches!(sent.judge(&no), Ok(None) | Err(_)),
        "without a good signature"
    );
    let yes = Judge {
        answer: true,
        asked: Cell::new(0),
    };
    match sent.judge(&yes) {
        Ok(Some(found)) => {
            assert_eq!(
                yes.asked.get(),
                1,
                "accepted, and nobody has looked at the signature"
            );
            assert_eq!(found.claims.issuer(), Some("issuer"));
            assert!(found.claims.audiences().any(|it| it == "api"));
            found.edit(&mut sent.headers, &mut sent.path);
            assert!(
                matches!(sent.judge(&no), Ok(None)),
                "the token is still there"
            );
        }
        Ok(None) => assert!(sent.headers.is_empty() || !text.starts_with('{')),
        Err(rejection) => assert_eq!(rejection.refusal.status, 401),
    }
    // A key set is text of somebody else's as well.
    drop(Jwks::parse(text.as_bytes()));
});

struct Sent {
    headers: HeaderMap,
    path: CanonicalPath,
}

impl Sent {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let first = lines.next()?;
        let token = if first.starts_with('{') {
            let (payload, signature) = (lines.next()?, lines.next()?);
            [first, payload, signature]
                .map(|part| URL_SAFE_NO_PAD.encode(part))
                .join(".")
        } else {
            first.to_owned()
        };
        let mut sent = Self {
            headers: HeaderMap::new(),
            path: canonical("/a").expect("a path"),
        };
        let (name, value) = match lines.next() {
            Some("bearer") => ("authorization", format!("Bearer {token}")),
            Some("x-jwt") => ("x-jwt", token),
            Some("cookie") => ("cookie", format!("a=b; session={token}; c=d")),
            _ => {
                let query = format!("a=b&access_token={token}&c=d");
                sent.path = sent.path.with_query(Some(&query)).ok()?;
                return Some(sent);
            }
        };
        let value = HeaderValue::from_str(&value).ok()?;
        sent.headers.append(HeaderName::from_static(name), value);
        Some(sent)
    }

    fn judge(&mut self, judge: &Judge) -> Result<Option<Authenticated>, Rejection> {
        sanitise(&*AUTHENTICATION, &mut self.headers);
        let request = TokenRequest {
            headers: &self.headers,
            query: self.path.query(),
        };
        authenticate(&*AUTHENTICATION, &request, &Known, judge, now())
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

static AUTHENTICATION: LazyLock<[RequestAuthentication; 1]> = LazyLock::new(|| {
    let header = |name, prefix: &str| TokenSource::Header {
        name: HeaderName::from_static(name),
        prefix: prefix.into(),
    };
    let claim = |name| vec![Arc::from(name)];
    let rule = JwtRule {
        issuer: "issuer".into(),
        audiences: vec!["api".into()],
        keys: KeySource::Url("https://issuer.example/keys".into()),
        sources: vec![
            header("authorization", "Bearer "),
            header("x-jwt", ""),
            TokenSource::Query("access_token".into()),
            TokenSource::Cookie("session".into()),
        ],
        forward: false,
        payload_header: Some(HeaderName::from_static("x-payload")),
        claim_headers: vec![
            (HeaderName::from_static("x-sub"), claim("sub")),
            (HeaderName::from_static("host"), claim("sub")),
        ],
    };
    [RequestAuthentication {
        key: "ns/jwt".parse().expect("a name"),
        targets: Vec::new(),
        rules: vec![rule],
        undecodable: None,
    }]
});

/// Says the same of every signature, and sees to it that it is asked what may be asked.
struct Judge {
    answer: bool,
    asked: Cell<usize>,
}

impl Verifier for Judge {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, input: &[u8], _: &[u8]) -> bool {
        self.asked.set(self.asked.get() + 1);
        assert!(key.fits(algorithm), "asked to mix up key and algorithm");
        assert_eq!(input.iter().filter(|byte| **byte == b'.').count(), 1);
        self.answer
    }
}

struct Known;

impl Keys for Known {
    fn keys(&self, _: &KeySource) -> Result<Arc<Jwks>, String> {
        static KEYS: LazyLock<Arc<Jwks>> = LazyLock::new(|| {
            let coordinate = |byte: u8| URL_SAFE_NO_PAD.encode([byte; 32]);
            let (x, y) = (coordinate(1), coordinate(2));
            let set = format!(
                r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"e1","x":"{x}","y":"{y}"}},
                   {{"kty":"OKP","crv":"Ed25519","kid":"d1","x":"{x}"}}]}}"#
            );
            Arc::new(Jwks::parse(set.as_bytes()).expect("a set"))
        });
        Ok(KEYS.clone())
    }
}
