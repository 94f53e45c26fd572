//! The kubelet of every node of the lab: it makes sandboxes, runs containers in them, probes them,
//! and says in the pod's status how they are. An API server asks it for their logs and ports.

mod chain;
mod command;
mod container;
mod env;
mod exec;
mod host;
mod pod;
mod probe;
mod refresh;
mod sandbox;
mod serve;
mod status;
mod tokens;
mod volumes;

pub use command::Images;
pub use exec::{Place, command as exec_command};
pub(crate) use host::NodeFiles;
pub use pod::{Order, PodHandle, Running, run_pod};
pub(crate) use sandbox::resolv_conf;
pub(crate) use serve::{PORT, serve};
