//! The words of a CNI plugin that is called behind the one that gives a pod its network: what the container runtime says
//! and is told, what the plugin asks the node agent, and the plugin's place in a node's configuration. CNI specification 1.1.

pub mod agent;
pub mod conflist;
mod input;
mod output;

pub use input::{Environment, NetConf, ips};
pub use output::{CniError, VERSIONS, result, versions};

/// Where the plugin looks for the agent unless told.
pub const AGENT_SOCKET: &str = "/var/run/ambit/cni.sock";
