//! Edits of headers (Gateway API HTTPHeaderFilter).

use http::HeaderMap;

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
