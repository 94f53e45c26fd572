//! Edits of headers (Gateway API HTTPHeaderFilter).

use http::HeaderMap;

use crate::headers::is_frame;
use crate::model::route::HeaderEdits;

/// Applies edits in the order set, add, remove. What addresses and frames the message stays: a length that
/// the body does not have would be read as another message behind us.
pub fn apply(edits: &HeaderEdits, headers: &mut HeaderMap) {
    for (name, value) in edits.set.iter().filter(|(name, _)| !is_frame(name)) {
        headers.insert(name, value.clone());
    }
    for (name, value) in edits.add.iter().filter(|(name, _)| !is_frame(name)) {
        headers.append(name, value.clone());
    }
    for name in edits.remove.iter().filter(|name| !is_frame(name)) {
        headers.remove(name);
    }
}
