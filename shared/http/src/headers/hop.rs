//! What belongs to one connection (RFC 9110 section 7.6.1).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::{HTTP2_SETTINGS, KEEP_ALIVE, PROXY_CONNECTION};

/// Removes the hop-by-hop headers of a response. Gives `upgrade` when `connection` names it.
pub fn strip_response(headers: &mut HeaderMap) -> Option<HeaderValue> {
    strip(headers)
}

/// Removes those of a request; `te: trailers` is kept. Gives `upgrade` when `connection` names it.
pub(super) fn strip_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    let upgrade = strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    upgrade
}

/// What [`strip`] takes away and looks at.
static OF_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    UPGRADE,
    TE,
    TRANSFER_ENCODING,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    HTTP2_SETTINGS,
];

fn strip(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // Most messages have none or one of them.
    let present = OF_CONNECTION
        .each_ref()
        .map(|name| headers.keys().any(|it| it == name));
    if !present.contains(&true) {
        return None;
    }
    let upgrade = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let upgrade = headers.get(UPGRADE).filter(|_| upgrade).cloned();
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter(|token| !is_kept_alive(token))
            .filter_map(|token| token.parse().ok())
            .collect();
        for name in named {
            // What frames and addresses the message is no option of the connection.
            if name != HOST && name != CONTENT_LENGTH {
                headers.remove(name);
            }
        }
    }
    for (name, _) in OF_CONNECTION
        .iter()
        .zip(present)
        .filter(|(_, there)| *there)
    {
        headers.remove(name);
    }
    upgrade
}

/// The option that most connections name, and which needs no look.
fn is_kept_alive(token: &str) -> bool {
    token.eq_ignore_ascii_case(KEEP_ALIVE.as_str())
}

/// The elements of a list header, without parameters. Bytes that are not ASCII do not hide the others.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let tokens = elements.filter_map(|element| element.split(|byte| *byte == b';').next());
    tokens.filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok())
}
