//! An object of the API server as it is kept: what translation reads, and no more.

use serde::Deserialize;
use serde_json::Value;

use super::trim::trim;
use crate::source::parse::{Wire, instead_of, parse_wire};
use crate::source::{Key, Kind, Object};

/// An object that was told of.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is, as far as it can be read.
    pub key: Option<Key>,
    /// Its `resourceVersion`.
    pub version: Box<str>,
    /// The object, or the field that is wrong and how.
    pub object: Result<Object, String>,
    /// What stands for a policy that cannot be read, unless an earlier version of it is known.
    pub instead: Option<Object>,
}

impl Item {
    /// Reads an object of a kind.
    #[must_use]
    pub fn read(kind: Kind, wire: Wire<'_>) -> Self {
        match parse_wire(kind, wire) {
            Ok(mut object) => {
                let version = object.metadata().resource_version.clone();
                trim(&mut object);
                Self {
                    key: Some(object.key()),
                    version: version.unwrap_or_default().into(),
                    object: Ok(object),
                    instead: None,
                }
            }
            Err(error) => {
                let (key, version) = head(kind, wire);
                Self {
                    key,
                    version: version.into(),
                    instead: instead_of(kind, wire, &error),
                    object: Err(error),
                }
            }
        }
    }
}

/// The name of an object of which nothing else is of interest.
#[must_use]
pub fn name(wire: Wire<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    match wire {
        Wire::Item(item) => item["metadata"]["name"].as_str().map(str::to_owned),
        Wire::Event(_) => Some(wire.object::<Named>().ok()?.metadata.name),
    }
}

/// Key and version of an object that cannot be read otherwise.
fn head(kind: Kind, wire: Wire<'_>) -> (Option<Key>, String) {
    let object = wire.object::<Value>().unwrap_or_default();
    let text = |field: &str| object["metadata"][field].as_str();
    let key = text("name").map(|name| Key {
        kind,
        namespace: text("namespace").unwrap_or_default().into(),
        name: name.into(),
    });
    let version = text("resourceVersion").unwrap_or_default().to_owned();
    (key, version)
}

#[cfg(test)]
#[path = "item_tests.rs"]
mod tests;
