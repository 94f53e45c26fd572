//! What the container runtime is told.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Value, json};

use super::super::api::Refusal;

/// The versions of the specification that this plugin speaks, the newest last.
pub(in super::super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// An error as CNI words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct CniError {
    pub(in super::super) code: u32,
    pub(in super::super) msg: String,
    pub(in super::super) details: String,
}

impl CniError {
    fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    pub(super) fn version(found: &str) -> Self {
        let details = format!("{found:?} is none of {}", VERSIONS.join(", "));
        Self::new(1, "incompatible CNI version", details)
    }

    pub(super) fn environment(details: impl Into<String>) -> Self {
        Self::new(4, "invalid environment variables", details)
    }

    pub(super) fn io(what: &str, error: &dyn Display) -> Self {
        Self::new(5, "I/O failure", format!("{what}: {error}"))
    }

    pub(super) fn decode(details: impl Into<String>) -> Self {
        Self::new(6, "cannot decode", details)
    }

    pub(super) fn configuration(details: impl Into<String>) -> Self {
        Self::new(7, "invalid network configuration", details)
    }

    pub(super) fn unavailable(socket: &Path, error: &dyn Display) -> Self {
        let details = format!("node agent at {}: {error}", socket.display());
        Self::new(
            50,
            "pods cannot start: the node agent does not run",
            details,
        )
    }

    /// As JSON, in the version that the configuration asked for if that can be read.
    pub(super) fn render(&self, input: &str) -> String {
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

pub(super) fn versions() -> String {
    let answer = json!({"cniVersion": NEWEST, "supportedVersions": VERSIONS});
    format!("{answer}\n")
}

/// The chain's result, unchanged but for the version, which every result has to say.
pub(super) fn result(version: &str, mut result: Value) -> Result<String, CniError> {
    if let Some(fields) = result.as_object_mut() {
        fields.entry("cniVersion").or_insert_with(|| version.into());
    }
    Ok(format!("{result}\n"))
}
