//! What becomes of connections to what the mesh does not know.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Whether a pod may connect to what discovery names neither as a service nor as a workload. The words are those of
/// Istio's `meshConfig.outboundTrafficPolicy.mode`
/// (<https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicy {
    /// `ALLOW_ANY`: it may, in plain text.
    #[default]
    AllowAny,
    /// `REGISTRY_ONLY`: it is refused.
    RegistryOnly,
}

/// A word that is none of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ALLOW_ANY or REGISTRY_ONLY")]
pub struct OutboundTrafficPolicyError;

impl OutboundTrafficPolicy {
    fn word(self) -> &'static str {
        match self {
            Self::AllowAny => "ALLOW_ANY",
            Self::RegistryOnly => "REGISTRY_ONLY",
        }
    }
}

impl fmt::Display for OutboundTrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for OutboundTrafficPolicy {
    type Err = OutboundTrafficPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::AllowAny, Self::RegistryOnly];
        let found = all.into_iter().find(|policy| policy.word() == text);
        found.ok_or(OutboundTrafficPolicyError)
    }
}
