//! What a good token changes in the request that the backend sees.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::find::decoded;
use super::jws::Unverified;
use super::{Authenticated, Claims};
use crate::model::{JwtRule, RequestAuthentication, TokenSource};

/// Takes away what only we may say: payload and claim headers of every rule that applies. For every request,
/// with or without a token, before anything is judged.
pub fn sanitise<'a>(
    authentications: impl IntoIterator<Item = &'a RequestAuthentication>,
    headers: &mut HeaderMap,
) {
    for rule in authentications.into_iter().flat_map(|it| &it.rules) {
        if let Some(name) = &rule.payload_header {
            headers.remove(name);
        }
        for (name, _) in &rule.claim_headers {
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
    pub(super) fn new(rule: &JwtRule, places: &[TokenSource], token: &Unverified<'_>) -> Self {
        let claims = Claims::verified(token.claims.clone());
        let mut set = Vec::new();
        if let Some(name) = &rule.payload_header
            && let Ok(value) = HeaderValue::from_str(token.payload)
        {
            set.push((name.clone(), value));
        }
        for (name, path) in &rule.claim_headers {
            if let Some(value) = claims.at(path).and_then(header_value) {
                set.push((name.clone(), value));
            }
        }
        let strip = if rule.forward { &[] } else { places };
        Self {
            set,
            strip: strip.to_vec(),
        }
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
    /// Sets the payload and claim headers for the backend, and takes the token out of headers and cookies unless
    /// the rule forwards it. After authorization, which may judge the token's header.
    pub fn edit(&self, headers: &mut HeaderMap) {
        for place in &self.edits.strip {
            match place {
                TokenSource::Header { name, .. } => {
                    headers.remove(name);
                }
                TokenSource::Cookie(name) => remove_cookie(headers, name),
                TokenSource::Query(_) => {}
            }
        }
        for (name, value) in &self.edits.set {
            headers.insert(name, value.clone());
        }
    }

    /// The query without the token; `None` when nothing is left of it.
    #[must_use]
    pub fn query<'q>(&self, query: &'q str) -> Option<Cow<'q, str>> {
        let stripped = |pair: &str| {
            let key = pair.split_once('=').map_or(pair, |(key, _)| key);
            let key = decoded(key);
            let mut places = self.edits.strip.iter();
            places.any(|place| matches!(place, TokenSource::Query(name) if **name == *key))
        };
        if !query.split('&').any(stripped) {
            return Some(query.into());
        }
        let left: Vec<&str> = query.split('&').filter(|pair| !stripped(pair)).collect();
        (!left.is_empty()).then(|| left.join("&").into())
    }
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
