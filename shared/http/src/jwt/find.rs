//! Where tokens are in a request.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use crate::model::TokenSource;

/// What is found at one place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'r> {
    Nothing,
    Token(Cow<'r, str>),
    /// More than one where one is expected, or bytes that no token has.
    Ambiguous,
}

/// The places that hold when a rule names none (Istio, `JWTRule.from_headers`).
pub(super) static DEFAULTS: LazyLock<[TokenSource; 2]> = LazyLock::new(|| {
    [
        TokenSource::Header {
            name: AUTHORIZATION,
            prefix: "Bearer ".into(),
        },
        TokenSource::Query("access_token".into()),
    ]
});

/// Looks at one place. A place that occurs twice is ambiguous even if both are equal: what the
/// application would read is not known.
pub(super) fn find<'r>(
    source: &TokenSource,
    headers: &'r HeaderMap,
    query: Option<&'r str>,
) -> Found<'r> {
    match source {
        TokenSource::Header { name, prefix } => {
            let mut values = headers.get_all(name).iter();
            let (Some(value), next) = (values.next(), values.next()) else {
                return Found::Nothing;
            };
            if next.is_some() {
                return Found::Ambiguous;
            }
            match value.to_str() {
                Ok(value) => match after(prefix, value) {
                    Some(token) => Found::Token(token.into()),
                    None => Found::Nothing,
                },
                Err(_) => Found::Ambiguous,
            }
        }
        TokenSource::Query(name) => {
            let pairs = query.unwrap_or_default().split('&');
            let named = pairs.filter_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (*decoded(key) == **name).then(|| decoded(value))
            });
            only(named)
        }
        TokenSource::Cookie(name) => {
            let lines = headers.get_all(COOKIE).iter();
            let crumbs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
            let named = crumbs.filter_map(|crumb| {
                let crumb = std::str::from_utf8(crumb.trim_ascii()).ok()?;
                let (key, value) = crumb.split_once('=')?;
                (key.trim_end() == &**name).then(|| value.trim_start().into())
            });
            only(named)
        }
    }
}

fn only<'r>(mut found: impl Iterator<Item = Cow<'r, str>>) -> Found<'r> {
    match (found.next(), found.next()) {
        (None, _) => Found::Nothing,
        (Some(token), None) => Found::Token(token),
        (Some(_), Some(_)) => Found::Ambiguous,
    }
}

/// What follows the prefix. Its letters are compared without case: schemes are case-insensitive
/// (RFC 9110 section 11.1), and a token that we overlooked might be believed behind us. `Bearer` alone is an
/// empty token.
fn after<'v>(prefix: &str, value: &'v str) -> Option<&'v str> {
    let value = value.trim();
    let scheme = prefix.trim_end();
    let front = value.get(..scheme.len())?;
    let rest = &value[scheme.len()..];
    let apart = rest.is_empty() || scheme.len() == prefix.len() || rest.starts_with([' ', '\t']);
    (front.eq_ignore_ascii_case(scheme) && apart).then(|| rest.trim_start())
}

/// Percent-decoded, so that no spelling of the name is overlooked.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        match (byte, tail) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            _ => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
