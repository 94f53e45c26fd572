//! What a good token changes in the request that the backend sees.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::find::decoded;
use super::{Authenticated, Claims};
use crate::headers::is_ours;
use crate::model::{JwtRule, RequestAuthentication, TokenSource};
use crate::path::CanonicalPath;

/// Takes away what only we may say: payload and claim headers of every rule that applies. For every request,
/// with or without a token, before anything is judged. What [the proxy alone says](is_ours) no rule can name.
pub fn sanitise<'a>(
    authentications: impl IntoIterator<Item = &'a RequestAuthentication>,
    headers: &mut HeaderMap,
) {
    for rule in authentications.into_iter().flat_map(|it| &it.rules) {
        let claims = rule.claim_headers.iter().map(|(name, _)| name);
        for name in claims.chain(&rule.payload_header).filter(|it| !is_ours(it)) {
            headers.remove(name);
        }
    }
}

/// What is set, and where the token is taken away.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Edits {
    set: Vec<(HeaderName, HeaderValue)>,
    strip: Vec<TokenSource>,
}

impl Edits {
    /// `payload` is the token's as it was sent.
    pub(super) fn new<'a>(
        rule: &JwtRule,
        places: impl Iterator<Item = &'a TokenSource>,
        payload: &str,
        claims: &Claims,
    ) -> Self {
        let mut set = Vec::new();
        if let Some(name) = &rule.payload_header
            && let Ok(value) = HeaderValue::from_str(payload)
        {
            set.push((name.clone(), value));
        }
        for (name, path) in &rule.claim_headers {
            if let Some(value) = claims.at(path).and_then(header_value) {
                set.push((name.clone(), value));
            }
        }
        set.retain(|(name, _)| !is_ours(name));
        let strip = places.filter(|_| !rule.forward).cloned().collect();
        Self { set, strip }
    }
}

/// Scalars as text. Lists, objects and texts that no header can hold are left out.
fn header_value(claim: &Value) -> Option<HeaderValue> {
    match claim {
        Value::String(text) => HeaderValue::from_str(text).ok(),
        Value::Bool(_) | Value::Number(_) => HeaderValue::from_str(&claim.to_string()).ok(),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Authenticated {
    /// Sets the payload and claim headers for the backend, and takes the token out of headers, cookies and the
    /// query unless the rule forwards it. After authorization, which may judge the token's header.
    pub fn edit(&self, headers: &mut HeaderMap, path: &mut CanonicalPath) {
        for place in &self.edits.strip {
            match place {
                TokenSource::Header { name, .. } => {
                    headers.remove(name);
                }
                TokenSource::Cookie(name) => remove_cookie(headers, name),
                TokenSource::Query(name) => remove_parameter(path, name),
            }
        }
        for (name, value) in &self.edits.set {
            headers.insert(name, value.clone());
        }
    }
}

fn remove_parameter(path: &mut CanonicalPath, name: &str) {
    let Some(query) = path.query() else { return };
    let named = |pair: &&str| {
        let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
        *decoded(key) == *name
    };
    let left: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
    let left = (!left.is_empty()).then(|| left.join("&"));
    *path = path
        .with_query(left.as_deref())
        .expect("parts of a query make one");
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let named = |crumb: &[u8]| {
        let mut parts = crumb.splitn(2, |byte| *byte == b'=');
        parts
            .next()
            .is_some_and(|key| key.trim_ascii() == name.as_bytes())
    };
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let crumbs = line.as_bytes().split(|byte| *byte == b';');
        let left: Vec<&[u8]> = crumbs.filter(|crumb| !named(crumb)).collect();
        let left = left.join(&b';');
        let left = left.trim_ascii();
        // Parts of a value are a value.
        if let (false, Ok(value)) = (left.is_empty(), HeaderValue::from_bytes(left)) {
            headers.append(COOKIE, value);
        }
    }
}
