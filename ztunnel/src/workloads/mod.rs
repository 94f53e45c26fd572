//! The pods of this node: announced by the node agent, described by discovery, served by proxies.
//!
//! A pod's listeners open when it is announced; its connections go on once both are known and
//! agree on who it is. Whatever goes wrong with one pod stays with that pod.

mod announced;
mod host;
mod manager;
mod zds;

#[cfg(test)]
mod tests;

pub use announced::{Announced, State};
pub use host::{Host, Listen, Origin};
pub use manager::{Manager, Summary};
pub use zds::{Surroundings, follow};
