//! What belongs to one connection (RFC 9110 section 7.6.1).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::KEEP_ALIVE;

/// Removes the hop-by-hop headers of a response. Gives `upgrade` when `connection` names it.
pub fn strip_response(headers: &mut HeaderMap) -> Option<HeaderValue> {
    strip(headers, false)
}

/// Removes those of a request; `te: trailers` is kept. Gives `upgrade` when `connection` names it.
pub(super) fn strip_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    strip(headers, true)
}

fn strip(headers: &mut HeaderMap, keeps_trailers: bool) -> Option<HeaderValue> {
    // Most messages have none of them, or one that says what is so anyway.
    let mut lines = headers
        .iter()
        .filter(|(name, _)| is_of_connection(name.as_str()));
    match (lines.next(), lines.next()) {
        (None, _) => return None,
        (Some((name, value)), None) if *name == CONNECTION && is_kept_alive(value.as_bytes()) => {
            headers.remove(CONNECTION);
            return None;
        }
        _ => {}
    }
    let asks = |name, token: &str| tokens(headers, name).any(|it| it.eq_ignore_ascii_case(token));
    let trailers = keeps_trailers && asks(&TE, "trailers");
    let upgrade = headers.get(UPGRADE).cloned();
    let upgrade = upgrade.filter(|_| asks(&CONNECTION, "upgrade"));
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter(|token| !is_kept_alive(token.as_bytes()))
        .filter_map(|token| token.parse().ok())
        // What frames and addresses the message is no option of the connection.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    let own = headers.keys().filter(|it| is_of_connection(it.as_str()));
    let own: Vec<HeaderName> = own.cloned().collect();
    for name in named.into_iter().chain(own) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade
}

/// Whether it is for one connection, whatever `connection` says.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "upgrade"
            | "te"
            | "transfer-encoding"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
    )
}

/// The option that most connections name, and which needs no look.
fn is_kept_alive(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(KEEP_ALIVE.as_str().as_bytes())
}

/// The elements of a list header, without parameters. Bytes that are not ASCII do not hide the others.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let tokens = elements.filter_map(|element| element.split(|byte| *byte == b';').next());
    tokens.filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok())
}
