//! What [`authorize`](super::authorize) answers, in words an operator can act on.

use std::fmt;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;

use crate::model::policy::Action;
use crate::refusal::{Flag, Refusal};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is to be done.
    pub decision: Decision,
    /// Why. With [`Decision::Ask`]: what would hold if every authorizer allowed and changed nothing.
    pub reason: Reason,
    /// Dry-run policies that match; they change nothing.
    pub dry_run: Vec<Hit>,
    /// AUDIT policies that match.
    pub audit: Vec<Hit>,
    /// Whether DENY and ALLOW would allow it if dry-run policies were enforced; `None` when none
    /// applies.
    pub enforced: Option<bool>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Refuse.
    Deny,
    /// CUSTOM policies match. Every one of these has to allow, each is there once, in the order of the
    /// policies. Then [`authorize_asked`](super::authorize_asked) judges the request with the headers
    /// they changed, and its verdict replaces this one. An authorizer that is not known denies:
    /// [`Ask::unknown`].
    Ask(Vec<Ask>),
}

/// An authorizer that has to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its key.
    pub authorizer: NamespacedName,
    /// The CUSTOM policy that names it.
    pub policy: NamespacedName,
    /// Position of its rule that matches.
    pub rule: usize,
}

impl Ask {
    /// Why the request is denied when there is no authorizer of this key.
    #[must_use]
    pub fn unknown(&self) -> Reason {
        Reason::UnknownAuthorizer {
            policy: self.policy.clone(),
            authorizer: self.authorizer.clone(),
        }
    }
}

impl Verdict {
    /// Whether the request may go on without asking anybody.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decision {
            Decision::Allow | Decision::Deny => self.reason.fmt(f),
            Decision::Ask(asks) => {
                f.write_str("asks")?;
                for ask in asks {
                    let (policy, rule) = (&ask.policy, ask.rule);
                    write!(f, " {} (policy {policy}, rule {rule})", ask.authorizer)?;
                }
                Ok(())
            }
        }
    }
}

/// A policy that matches without deciding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The policy.
    pub policy: NamespacedName,
    /// Position of the first rule that matches; `None` when the policy cannot be understood.
    pub rule: Option<usize>,
    /// What it would do.
    pub action: Action,
}

/// Why a request is allowed or denied.
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
    /// A policy that applies could not be understood.
    Undecodable {
        /// The policy.
        policy: NamespacedName,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// A CUSTOM policy matches and names an authorizer that is not there.
    UnknownAuthorizer {
        /// The policy.
        policy: NamespacedName,
        /// Its authorizer.
        authorizer: NamespacedName,
    },
}

impl Reason {
    /// The policy that decided, with the position of its rule where one matched.
    #[must_use]
    pub fn decided_by(&self) -> Option<(&NamespacedName, Option<usize>)> {
        match self {
            Self::Allowed { policy, rule } | Self::Denied { policy, rule } => {
                Some((policy, Some(*rule)))
            }
            Self::Undecodable { policy, .. } | Self::UnknownAuthorizer { policy, .. } => {
                Some((policy, None))
            }
            Self::NoPolicy | Self::NoneAllows { .. } => None,
        }
    }

    /// What the client and the log are told when this denies: 403.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let flag = match self {
            Self::UnknownAuthorizer { .. } => Flag::ExternalAuthDenied,
            _ => Flag::PolicyDenied,
        };
        Refusal::new(403, flag, self.to_string())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("allowed: no policy refuses it"),
            Self::Allowed { policy, rule } => {
                write!(f, "allowed by policy {policy}, rule {rule}")
            }
            Self::Denied { policy, rule } => {
                write!(f, "denied by policy {policy}, rule {rule}")
            }
            Self::NoneAllows { policies: 1, first } => {
                write!(f, "denied: no rule of the ALLOW policy {first} matches")
            }
            Self::NoneAllows { policies, first } => write!(
                f,
                "denied: no rule of {policies} ALLOW policies matches (the first is {first})"
            ),
            Self::Undecodable { policy, reason } => write!(
                f,
                "denied: policy {policy} cannot be understood ({reason}); correct or remove it"
            ),
            Self::UnknownAuthorizer { policy, authorizer } => write!(
                f,
                "denied: policy {policy} names the authorizer {authorizer}, which is not known; \
                 check that it is configured"
            ),
        }
    }
}
