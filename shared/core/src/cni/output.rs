//! What the container runtime is told: results and errors of the CNI specification 1.1.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Value, json};

use super::agent::Refusal;

/// The versions of the specification that this plugin speaks, the newest last.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// An error as CNI words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// Below 100 the specification's, from 100 on the plugin's own.
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// Why, and where.
    pub details: String,
}

impl CniError {
    fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// A version of the specification that is not spoken here.
    #[must_use]
    pub fn version(found: &str) -> Self {
        let details = format!("{found:?} is none of {}", VERSIONS.join(", "));
        Self::new(1, "incompatible CNI version", details)
    }

    /// A variable is missing, or is not what it has to be.
    #[must_use]
    pub fn environment(details: impl Into<String>) -> Self {
        Self::new(4, "invalid environment variables", details)
    }

    /// The system does not let the plugin do its work.
    #[must_use]
    pub fn io(what: &str, error: &dyn Display) -> Self {
        Self::new(5, "I/O failure", format!("{what}: {error}"))
    }

    /// Something is not what it has to be.
    #[must_use]
    pub fn decode(details: impl Into<String>) -> Self {
        Self::new(6, "cannot decode", details)
    }

    /// The plugin is in the wrong place.
    #[must_use]
    pub fn configuration(details: impl Into<String>) -> Self {
        Self::new(7, "invalid network configuration", details)
    }

    /// Nobody answers at the agent's socket.
    #[must_use]
    pub fn unavailable(socket: &Path, error: &dyn Display) -> Self {
        let details = format!("node agent at {}: {error}", socket.display());
        Self::new(
            50,
            "pods cannot start: the node agent does not run",
            details,
        )
    }

    /// As JSON, in the version that the configuration asked for if that can be read.
    #[must_use]
    pub fn render(&self, input: &str) -> String {
        let asked = serde_json::from_str::<Value>(input).ok();
        let version = asked
            .as_ref()
            .and_then(|conf| conf["cniVersion"].as_str())
            .unwrap_or(NEWEST);
        let error = json!({
            "cniVersion": version,
            "code": self.code,
            "msg": self.msg,
            "details": self.details,
        });
        format!("{error}\n")
    }
}

impl From<Refusal> for CniError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.msg, refusal.details)
    }
}

/// The answer to `VERSION`.
#[must_use]
pub fn versions() -> String {
    let answer = json!({"cniVersion": NEWEST, "supportedVersions": VERSIONS});
    format!("{answer}\n")
}

/// The chain's result, unchanged but for the version, which every result has to say.
#[must_use]
pub fn result(version: &str, mut result: Value) -> String {
    if let Some(fields) = result.as_object_mut() {
        fields.entry("cniVersion").or_insert_with(|| version.into());
    }
    format!("{result}\n")
}
