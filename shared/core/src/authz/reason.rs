//! What [`authorize`](super::authorize) answers, in words an operator can act on.

use std::fmt;
use std::sync::Arc;

use crate::addr::NamespacedName;
use crate::model::Action;
use crate::plan::{Refusal, ResponseFlag, Transport};
use crate::udp::UDP;

/// The name of the policy of workloads that are STRICT on every port, in the root namespace, as Istio has it.
pub const STATIC_STRICT: &str = "istio_converted_static_strict";
/// What the name of a policy begins with that one PeerAuthentication became, as Istio has it.
pub const CONVERTED: &str = "converted_peer_authentication_";

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the connection may go on.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Dry-run policies that match; they change nothing.
    pub dry_run: Vec<DryRunHit>,
    /// What the answer would be if dry-run policies were enforced; `None` when none applies.
    pub enforced: Option<bool>,
}

impl Verdict {
    /// The policy that decided, with the position of its rule where one matched.
    #[must_use]
    pub fn decided_by(&self) -> Option<(&NamespacedName, Option<usize>)> {
        match &self.reason {
            Reason::Allowed { policy, rule } | Reason::Denied { policy, rule } => {
                Some((policy, Some(*rule)))
            }
            Reason::Unknown { policy } | Reason::Undecodable { policy, .. } => Some((policy, None)),
            Reason::NoPolicy | Reason::NoneAllows { .. } | Reason::NotSynced => None,
        }
    }

    /// `Ok` when allowed, else what the peer and the log are told of what `transport` carried.
    ///
    /// # Errors
    /// A refusal with status 401 and flag DENY.
    pub fn into_result(self, transport: Transport) -> Result<Self, Refusal> {
        if self.allowed {
            return Ok(self);
        }
        let mut why = self.reason.to_string();
        if transport == Transport::Udp && self.reason.is_mutual_tls() {
            // A pod in the mesh whose TCP is carried sends UDP in plain text all the same.
            why.push_str("; UDP of a pod is in the mesh if its annotation ");
            why.push_str(UDP);
            why.push_str(" is enabled");
        }
        Err(Refusal::new(401, ResponseFlag::Deny, why))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// A dry-run policy that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRunHit {
    /// The policy.
    pub policy: NamespacedName,
    /// Position of the first rule that matches.
    pub rule: usize,
    /// What it would do.
    pub action: Action,
}

/// Why a connection is allowed or denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No ALLOW policy applies and no DENY policy matches.
    NoPolicy,
    /// A rule of an ALLOW policy matches.
    Allowed {
        /// The policy.
        policy: NamespacedName,
        /// Position of its rule.
        rule: usize,
    },
    /// A rule of a DENY policy matches.
    Denied {
        /// The policy.
        policy: NamespacedName,
        /// Position of its rule.
        rule: usize,
    },
    /// ALLOW policies apply and none matches.
    NoneAllows {
        /// How many apply.
        policies: usize,
        /// The first of them.
        first: NamespacedName,
    },
    /// The workload names a policy that has not arrived.
    Unknown {
        /// The policy.
        policy: NamespacedName,
    },
    /// A policy that may apply could not be understood.
    Undecodable {
        /// The policy.
        policy: NamespacedName,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// No policies have been received yet.
    NotSynced,
}

impl Reason {
    /// Whether plain text is refused because a PeerAuthentication is STRICT.
    fn is_mutual_tls(&self) -> bool {
        matches!(self, Self::Denied { policy, .. } if peer_authentication(policy).is_some())
    }
}

/// The PeerAuthentication that became this policy, in the words of its author; `None` if it is another policy. One policy
/// stands for all that are STRICT on every port, and does not tell which of them it is.
fn peer_authentication(policy: &NamespacedName) -> Option<String> {
    if &*policy.name == STATIC_STRICT {
        return Some("a PeerAuthentication of the workload, its namespace or the mesh".to_owned());
    }
    let name = policy.name.strip_prefix(CONVERTED)?;
    Some(format!("PeerAuthentication {}/{name}", policy.namespace))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("allowed: no policy refuses it"),
            Self::Allowed { policy, rule } => {
                write!(f, "allowed by policy {policy}, rule {rule}")
            }
            Self::Denied { policy, rule } => {
                if let Some(object) = peer_authentication(policy) {
                    write!(
                        f,
                        "denied: {object} is STRICT, so plain text is refused and the caller has to be in the mesh "
                    )?;
                    return write!(f, "(policy {policy}, rule {rule})");
                }
                write!(f, "denied by policy {policy}, rule {rule}")
            }
            Self::NoneAllows { policies: 1, first } => {
                write!(f, "denied: no rule of the ALLOW policy {first} matches")
            }
            Self::NoneAllows { policies, first } => write!(
                f,
                "denied: no rule of {policies} ALLOW policies matches (the first is {first})"
            ),
            Self::Unknown { policy } => write!(
                f,
                "denied: policy {policy} applies but has not been received; \
                 check that it exists and that the control plane pushes it"
            ),
            Self::Undecodable { policy, reason } => write!(
                f,
                "denied: policy {policy} cannot be understood ({reason}); correct or remove it"
            ),
            Self::NotSynced => f.write_str(
                "denied: no policies have been received yet; check the control plane connection",
            ),
        }
    }
}
