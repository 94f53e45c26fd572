//! The pure heart of the mesh: model, index, authorization, plans.
//!
//! Nothing here does IO, reads a clock, the environment or a file, or draws a random number:
//! time and randomness are arguments. `.ci/run` proves it on the dependency tree.

#![forbid(unsafe_code)]

pub mod addr;
pub mod authz;
pub mod backoff;
pub mod balance;
pub mod clock;
pub mod cni;
pub mod convert;
pub mod dns;
pub mod exclusions;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "histories need a part of it"))]
mod fixtures;
pub mod hbone;
pub mod identity;
pub mod index;
pub mod model;
pub mod plan;
pub mod rotation;
pub mod subscription;
pub mod trust_domain;
pub mod udp;
pub mod zds;
