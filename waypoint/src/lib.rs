//! The waypoint: an L7 proxy that the traffic of a service goes through.
//!
//! ```text
//! listener   HBONE on 15008, mutual TLS as the waypoint
//! tunnel     a CONNECT: bound to this waypoint? what is spoken in it?
//! crossing   in its other role, a gateway between networks: a CONNECT leads to the HBONE port of a pod, as it is
//! http       requests: policies, routes, attempts        opaque   everything else, as it is
//! upstream   endpoints, tunnels to them
//! ```

#![forbid(unsafe_code)]

pub mod app;
pub mod command;
pub mod config;
mod crew;
mod crossing;
mod discovery;
mod dump;
mod ending;
mod http;
mod io;
mod listener;
mod opaque;
#[doc(hidden)]
pub mod plain;
mod session;
mod shared;
mod snapshot;
#[cfg(test)]
mod testing;
pub mod trusted;
mod tunnel;
mod upstream;
mod waiting;
