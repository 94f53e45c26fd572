//! Pure L7 decisions: routes, filters, authorization, retries.
//!
//! Nothing here does IO, reads a clock, the environment or a file: time and randomness are
//! arguments. `.ci/run` proves it on the dependency tree and with clippy.

#![forbid(unsafe_code)]

pub mod authz;
pub mod balance;
pub mod breaker;
pub mod cluster;
pub mod config;
pub mod convert;
pub mod detect;
pub mod extauth;
pub mod fault;
#[cfg(test)]
mod fixtures;
pub mod h1;
pub mod h2fields;
pub mod h2rules;
pub mod headers;
pub mod host;
pub mod jwt;
pub mod model;
pub mod outlier;
pub mod path;
pub mod ratelimit;
pub mod refusal;
pub mod retry;
pub mod route;
pub mod timeout;
