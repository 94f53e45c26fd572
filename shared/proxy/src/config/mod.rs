//! What proxies are told by environment variables, under the names that manifests of Istio's use.
//!
//! Everything is read and checked before anything starts, and everything that is wrong is reported at
//! once. Nothing else in a process reads the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

mod mesh;
mod process;
mod reader;
pub mod value;

pub use mesh::{ControlPlane, Mesh};
pub use process::{Drain, Log, Servers};
pub use reader::{Known, Problem, Problems, Reader};
pub use value::Listen;

/// The environment as text. What is not UTF-8 cannot be a variable of ours.
#[must_use]
pub fn environment(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, String> {
    vars.into_iter()
        .filter_map(|(name, value)| {
            let value = value.to_string_lossy().into_owned();
            Some((name.into_string().ok()?, value))
        })
        .collect()
}
