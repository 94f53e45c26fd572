//! The lab's network: which address is whose, and the links, routes and rules that make it so.

mod namespace;
pub mod plan;
pub mod proxy;
pub mod topology;
pub mod weather;

pub use namespace::NamedNetns;
