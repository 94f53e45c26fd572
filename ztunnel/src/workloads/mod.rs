//! The pods of this node: announced by the node agent, described by discovery, served by proxies. Or the machine that this is, which
//! nobody announces.
//!
//! A pod's listeners open when it is announced; its connections go on once both are known and
//! agree on who it is. Whatever goes wrong with one pod stays with that pod.

mod announced;
mod host;
mod machine;
mod manager;
mod zds;

#[cfg(test)]
mod tests;

pub use announced::{Announced, Kind, State};
pub use host::{Host, Listen, Origin};
pub use machine::{Error as MachineError, Machine, release};
pub use manager::{Manager, Summary};
pub use zds::{Surroundings, follow};
