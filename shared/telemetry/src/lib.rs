//! Metrics, access log, logging and the admin server of the proxies.
//!
//! A connection costs one hash lookup and one line: label sets are resolved once and lines are
//! written by a thread of their own. Nothing here decides anything about traffic.

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod log;
pub mod metrics;
pub mod profile;
pub mod readiness;
pub mod requests;
pub mod trace;
