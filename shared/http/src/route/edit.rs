//! Edits of headers (Gateway API HTTPHeaderFilter).

use http::{HeaderMap, HeaderName, header};

use crate::model::route::HeaderEdits;

/// Applies edits in the order set, add, remove.
pub fn apply(edits: &HeaderEdits, headers: &mut HeaderMap) {
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name, value.clone());
    }
    for name in &edits.remove {
        headers.remove(name);
    }
}

/// Whether routes may edit this header: those that frame a message or vouch for a caller are ours.
#[must_use]
pub fn is_editable(name: &HeaderName) -> bool {
    let framing = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
    ];
    let text = name.as_str();
    !framing.contains(name)
        && text != "x-forwarded-client-cert"
        && text != "keep-alive"
        && text != "proxy-connection"
        && !text.starts_with("x-ambit-")
}
