//! The node proxy and the node agent.

#![forbid(unsafe_code)]

pub mod agent;
pub mod app;
pub mod capture;
pub mod command;
pub mod config;
pub mod connections;
pub mod discovery;
pub mod proxy;
#[cfg(test)]
mod testing;
pub mod workloads;
