//! What belongs to one connection (RFC 9110 section 7.6.1), and what a client must not say.

use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::{HTTP2_SETTINGS, KEEP_ALIVE, PROXY_CONNECTION, is_reserved, remove_names};

/// What the removed headers asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hops {
    /// The value of `upgrade`, when `connection` names it too. It is passed on only where the upgrade is
    /// enabled.
    pub upgrade: Option<HeaderValue>,
}

/// Makes a received request safe to judge: removes hop-by-hop headers and those that `connection` names,
/// headers that only proxies may send (`x-forwarded-client-cert`, `x-envoy-*`, `x-istio-*`, `x-ambit-*`),
/// and names with an underscore, which many applications read as a hyphen. `te: trailers` is kept.
///
/// Ask [`client_ip`](super::client_ip) for the client's address; `x-forwarded-for` stays until
/// [`forward`](super::forward). `forwarded` says the same and goes.
pub fn receive(headers: &mut HeaderMap) -> Hops {
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    let hops = strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(FORWARDED);
    remove_names(headers, |name| {
        is_reserved(name) || name.as_str().contains('_')
    });
    hops
}

/// Removes the hop-by-hop headers of a response.
pub fn strip_response(headers: &mut HeaderMap) -> Hops {
    strip(headers)
}

fn strip(headers: &mut HeaderMap) -> Hops {
    let upgrade = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let upgrade = headers.remove(UPGRADE).filter(|_| upgrade);
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| token.parse().ok())
            .collect();
        for name in named {
            // What frames and addresses the message is no option of the connection.
            if name != HOST && name != CONTENT_LENGTH {
                headers.remove(name);
            }
        }
    }
    for name in [CONNECTION, TE, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    Hops { upgrade }
}

/// The elements of a list header, without parameters.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let elements = lines.flat_map(|line| line.split(','));
    elements.map(|element| element.split(';').next().unwrap_or_default().trim())
}
