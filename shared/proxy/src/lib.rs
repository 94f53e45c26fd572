//! What the node proxy and the waypoint have in common besides the wire: their environment and their
//! threads.

#![forbid(unsafe_code)]

pub mod config;
mod workers;

pub use workers::Workers;
