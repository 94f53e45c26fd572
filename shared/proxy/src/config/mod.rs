//! What proxies are told by environment variables, under the names that manifests of Istio's use.
//!
//! Everything is read and checked before anything starts, and everything that is wrong is reported at
//! once. Nothing else in a process reads the environment.

mod mesh;
mod process;
mod reader;
pub mod value;

pub use mesh::{ControlPlane, Mesh};
pub use process::{Drain, Log, Servers};
pub use reader::{Known, Problem, Problems, Reader};
pub use value::Listen;
