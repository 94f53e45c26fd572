//! What the node proxy and the waypoint have in common besides the wire: their environment, their
//! threads and what they show of themselves.

#![forbid(unsafe_code)]

pub mod config;
mod control;
mod denials;
mod departed;
mod descriptors;
mod drain;
pub mod dump;
pub mod heap;
mod hosts;
mod published;
mod registry;
mod workers;

pub use control::Whose;
pub use denials::{Denials, Facts, Shown as ShownDenials};
pub use departed::Departed;
pub use descriptors::raise_descriptor_limit;
pub use drain::{Drain, Drained};
pub use hosts::{Hosts, Looking, Lookup};
pub use published::Published;
pub use registry::Registry;
pub use workers::Workers;
