//! Kubernetes objects: what kinds there are, how they are read, and where they are kept.

mod kind;
mod meta;
mod parse;
mod store;
mod table;

pub use kind::{ALL_KINDS, Kind};
pub use meta::{controlled_by, matches, new_uid, now, owner_reference, random_suffix};
pub use parse::{Document, DocumentError, Manifest, parse};
pub use store::{Applied, Object, Published, Store};
pub use table::{Key, Table};
