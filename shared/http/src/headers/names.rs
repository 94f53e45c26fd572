//! Names that mean something to proxies.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};

/// Who the client is, from its verified certificate.
pub const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub(super) const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const XF_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Prefixes of the mesh's own headers.
const OWN_PREFIXES: [&str; 3] = ["x-envoy-", "x-istio-", "x-ambit-"];

/// Whether only the proxy may say this to a backend: its security headers, the host, and what frames the
/// message. Authorizers and claims cannot.
#[must_use]
pub fn is_ours(name: &HeaderName) -> bool {
    is_reserved(name) || is_frame(name) || [XFF, XF_PROTO, REQUEST_ID].contains(name)
}

/// Whether it addresses and frames one message on one connection. Filters cannot say that.
pub(crate) fn is_frame(name: &HeaderName) -> bool {
    [
        HOST,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        CONNECTION,
        TE,
        UPGRADE,
    ]
    .contains(name)
        || [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS].contains(name)
}

/// Whether a client must not send it.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == XFCC || OWN_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

/// Removes all whose name is such.
pub(super) fn remove_names(headers: &mut HeaderMap, such: impl Fn(&HeaderName) -> bool) {
    // Nothing is collected for the ordinary request.
    if !headers.keys().any(&such) {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().filter(|name| such(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}
