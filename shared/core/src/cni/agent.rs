//! What the plugin and the node agent say to each other: JSON.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// CNI: something went wrong that will not go away by itself. Codes from 100 on are the plugin's own.
pub const REFUSED: u32 = 100;
/// CNI: try again later.
pub const LATER: u32 = 11;

/// A pod's name as the runtime says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty when the runtime does not say it.
    #[serde(default)]
    pub uid: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the runtime asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// A pod starts.
    Add,
    /// A pod ends.
    Del,
    /// Is all as it was left?
    Check,
}

/// What the plugin asks the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// The sandbox, as the runtime knows it.
    pub container_id: String,
    /// Whose sandbox it is.
    pub pod: PodName,
    /// Its network namespace; absent at some DELs.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// Its addresses.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
}

impl Request {
    /// Reads a question, JSON.
    ///
    /// # Errors
    /// It is none: the answer to it.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(Refusal::of_a_question)
    }
}

/// The pod may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It is in the mesh.
    pub enrolled: bool,
    /// Why it is not in the mesh.
    #[serde(default)]
    pub reason: String,
}

impl Answer {
    /// The pod is in the mesh.
    #[must_use]
    pub fn enrolled() -> Self {
        Self {
            enrolled: true,
            reason: String::new(),
        }
    }

    /// The pod stays out of the mesh.
    #[must_use]
    pub fn left(reason: &str) -> Self {
        Self {
            enrolled: false,
            reason: reason.to_owned(),
        }
    }
}

/// The pod may not go on: an error as CNI words it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// [`REFUSED`] or [`LATER`].
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// Why.
    #[serde(default)]
    pub details: String,
}

impl Refusal {
    /// The pod cannot join.
    #[must_use]
    pub fn of(pod: &PodName, reason: impl fmt::Display) -> Self {
        Self {
            code: REFUSED,
            msg: format!("pod {pod} cannot join the mesh"),
            details: reason.to_string(),
        }
    }

    /// The pod cannot join now.
    #[must_use]
    pub fn later(pod: &PodName, reason: impl fmt::Display) -> Self {
        Self {
            code: LATER,
            ..Self::of(pod, reason)
        }
    }

    /// What was asked is no question.
    #[must_use]
    pub fn of_a_question(error: impl fmt::Display) -> Self {
        Self {
            code: REFUSED,
            msg: "the agent does not understand the plugin".to_owned(),
            details: error.to_string(),
        }
    }
}
