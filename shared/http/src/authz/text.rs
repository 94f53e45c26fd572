//! How texts, hosts and paths are compared. Nothing is built for a comparison.

use std::sync::Arc;

use crate::model::TextMatch;
use crate::model::policy::PathPattern;

/// Compares bytes: a header's value need not be text.
pub(super) fn holds(wanted: &TextMatch, found: &[u8]) -> bool {
    match wanted {
        TextMatch::Exact(text) => found == text.as_bytes(),
        TextMatch::Prefix(text) => found.starts_with(text.as_bytes()),
        TextMatch::Suffix(text) => found.ends_with(text.as_bytes()),
        TextMatch::Present => true,
    }
}

/// Compares with a text given in parts.
pub(super) fn parts_hold(wanted: &TextMatch, parts: &[&str]) -> bool {
    let found = || parts.iter().flat_map(|part| part.bytes());
    match wanted {
        TextMatch::Exact(text) => found().eq(text.bytes()),
        TextMatch::Prefix(text) => leads(text.bytes(), found()),
        TextMatch::Suffix(text) => leads(text.bytes().rev(), found().rev()),
        TextMatch::Present => true,
    }
}

/// Whether `found` begins with `wanted`.
fn leads(wanted: impl Iterator<Item = u8>, mut found: impl Iterator<Item = u8>) -> bool {
    let mut wanted = wanted;
    wanted.all(|byte| found.next() == Some(byte))
}

/// Compares hosts: without case, port and trailing dot, on both sides. The port a client writes into
/// `Host` says nothing; the one it dialled is a policy's `ports`.
pub(super) fn host_holds(wanted: &TextMatch, found: &str) -> bool {
    let found = without_port(found).0;
    let found = found.strip_suffix('.').unwrap_or(found).as_bytes();
    let same = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
    match wanted {
        TextMatch::Exact(text) => same(bare(text).0, found),
        TextMatch::Prefix(text) => match bare(text) {
            // `a.com:*` is a.com on any port, not a.com.evil.
            (host, true) => same(host, found),
            (host, false) => {
                let text = if text.ends_with('.') {
                    text.as_bytes()
                } else {
                    host
                };
                found
                    .get(..text.len())
                    .is_some_and(|front| same(text, front))
            }
        },
        TextMatch::Suffix(text) => {
            let (text, _) = bare(text);
            let start = found.len().checked_sub(text.len());
            start.is_some_and(|start| same(text, &found[start..]))
        }
        TextMatch::Present => !found.is_empty(),
    }
}

/// The host of a pattern, and whether it had a port.
fn bare(pattern: &Arc<str>) -> (&[u8], bool) {
    let (host, port) = without_port(pattern);
    (host.strip_suffix('.').unwrap_or(host).as_bytes(), port)
}

/// The host of an authority, and whether it had a port. The start of an IPv6 address has none.
fn without_port(authority: &str) -> (&str, bool) {
    let name = match (authority.starts_with('['), authority.rfind(']')) {
        (_, Some(end)) => end + 1,
        (true, None) => authority.len(),
        (false, None) => 0,
    };
    match authority[name..].find(':') {
        Some(colon) => (&authority[..name + colon], true),
        None => (authority, false),
    }
}

/// Compares a canonical path.
pub(super) fn path_holds(wanted: &PathPattern, path: &str) -> bool {
    match wanted {
        PathPattern::Text(text) => holds(text, path.as_bytes()),
        PathPattern::Template(template) => template_holds(template, path),
    }
}

/// `{*}` is one segment that is not empty, `{**}` zero or more and only last (Istio,
/// `AuthorizationPolicy` Operation.paths). `/a/{**}` covers `/a/` and `/a/b`, and `/a` as well.
fn template_holds(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let mut wanted = template.split('/');
    loop {
        match (wanted.next(), segments.next()) {
            (None, None) => return true,
            (Some("{**}"), _) => return wanted.next().is_none(),
            (Some("{*}"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment && literal != "{*}" => {}
            _ => return false,
        }
    }
}
