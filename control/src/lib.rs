//! Ambit's control plane: it reads Kubernetes objects, turns them into what proxies understand,
//! pushes changes and signs certificates.
//!
//! ```text
//! source -> index (objects, what a change touches) -> translate (pure) -> push (delta xDS)
//!                                              tokens -> ca (who may ask for which identity)
//! ```

#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod ca;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod dispatch;
pub mod engine;
pub mod explain;
pub mod index;
pub mod install;
pub mod parameters;
pub mod push;
pub mod source;
pub mod tls;
pub mod tokens;
pub mod top;
pub mod translate;
pub mod waypoints;
