//! What the node proxy and the waypoint have in common besides the wire: their environment and their
//! threads.

#![forbid(unsafe_code)]

pub mod config;
mod control;
mod departed;
mod descriptors;
mod drain;
mod hosts;
mod workers;

pub use departed::Departed;
pub use descriptors::raise_descriptor_limit;
pub use drain::{Drain, Drained};
pub use hosts::Hosts;
pub use workers::Workers;
