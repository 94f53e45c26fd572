//! The lab's network: which address is whose, and the links, routes and rules that make it so.

mod accept;
pub mod crossing;
mod namespace;
pub mod plan;
pub mod proxy;
pub mod topology;
pub mod weather;

pub(crate) use accept::accepted;
pub use namespace::NamedNetns;
