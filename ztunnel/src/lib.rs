//! The node proxy and the node agent.

#![forbid(unsafe_code)]

pub mod agent;
pub mod capture;
