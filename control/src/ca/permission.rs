//! Who may have a certificate of which identity.
//!
//! Everybody their own. A trusted node account also those of the pods on its node, and no others:
//! a broken node is broken for its own pods alone.
//!
//! Proxies have certificates under the name that they call the trust domain by, which is an alias while it is renamed.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_core::identity::Identity;

use super::machine;
use crate::index::Index;
use crate::tokens::Caller;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error(
        "{account} may ask for its own identity only, not for {wanted}; a node proxy's account is named with --trusted-node-account"
    )]
    NotANode { account: String, wanted: Identity },
    #[error("{wanted} is not of the trust domain {trust_domain}, nor of an alias of it")]
    TrustDomain {
        wanted: Identity,
        trust_domain: Arc<str>,
    },
    #[error("the token of {account} names no node, and its pod is not known")]
    NoNode { account: String },
    #[error("the token of {account} says node {claimed}, but its pod is on {actual}")]
    OtherNode {
        account: String,
        claimed: Arc<str>,
        actual: Arc<str>,
    },
    #[error("the token of {account} is bound to a pod that was replaced")]
    OtherPod { account: String },
    #[error("no pod on node {node} runs as {wanted}")]
    NotOnNode { node: Arc<str>, wanted: Identity },
    #[error("the service account of the token makes no identity: {0}")]
    Identity(String),
    #[error(transparent)]
    Machine(#[from] machine::Refusal),
    #[error("a machine has its own identity only, not {wanted}")]
    NotTheMachine { wanted: Identity },
}

/// What somebody may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// A certificate of this identity.
    pub identity: Identity,
    /// The WorkloadEntry of the machine that it is for, if it is one's.
    pub entry: Option<Arc<str>>,
}

/// What a caller's certificate is to be: as [`permit`] says, or that of the machine of a WorkloadEntry, if it says that it is one.
///
/// # Errors
/// It may not have it.
pub fn permit_either(
    caller: &Caller,
    wanted: Option<Identity>,
    entry: Option<&str>,
    trusted: &BTreeSet<String>,
    index: &Index,
) -> Result<Permit, Refusal> {
    let entry = machine::of(caller, entry, index)?;
    // A node proxy's account may have more, on a node.
    let nobody = BTreeSet::new();
    let trusted = if entry.is_some() { &nobody } else { trusted };
    let identity = permit(caller, wanted, trusted, index).map_err(|refusal| match refusal {
        Refusal::NotANode { wanted, .. } if entry.is_some() => Refusal::NotTheMachine { wanted },
        refusal => refusal,
    })?;
    Ok(Permit { identity, entry })
}

/// The identity of a caller's certificate: its own, or `wanted` when it may.
///
/// # Errors
/// It may not.
pub fn permit(
    caller: &Caller,
    wanted: Option<Identity>,
    trusted: &BTreeSet<String>,
    index: &Index,
) -> Result<Identity, Refusal> {
    let trust_domains = &index.mesh().trust_domains;
    let own = Identity::new(
        trust_domains.own().clone(),
        caller.namespace.clone(),
        caller.service_account.clone(),
    )
    .map_err(|error| Refusal::Identity(error.to_string()))?;
    let Some(wanted) = wanted else {
        return Ok(own);
    };
    if trust_domains.settle(wanted.clone()) == own {
        return Ok(wanted);
    }
    let account = caller.account();
    if !trusted.contains(&account) {
        return Err(Refusal::NotANode { account, wanted });
    }
    if !trust_domains.contains(wanted.trust_domain()) {
        return Err(Refusal::TrustDomain {
            wanted,
            trust_domain: trust_domains.own().clone(),
        });
    }
    let node = node(caller, index)?;
    if index.runs_on(&node, wanted.namespace(), wanted.service_account()) {
        Ok(wanted)
    } else {
        Err(Refusal::NotOnNode { node, wanted })
    }
}

/// The node of a caller: as its token says, as its pod says, and both alike.
fn node(caller: &Caller, index: &Index) -> Result<Arc<str>, Refusal> {
    let account = caller.account();
    let pod = caller.pod.as_ref().and_then(|bound| {
        let pod = index.objects().pods.find(&caller.namespace, &bound.name)?;
        Some((bound, pod))
    });
    let mut actual: Option<Arc<str>> = None;
    if let Some((bound, pod)) = pod {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if !uid.is_empty() && !bound.uid.is_empty() && uid != &*bound.uid {
            return Err(Refusal::OtherPod { account });
        }
        let spec = pod.spec.as_ref();
        actual = spec.and_then(|s| s.node_name.as_deref()).map(Into::into);
    }
    match (caller.node.clone(), actual) {
        (Some(claimed), Some(actual)) if claimed != actual => Err(Refusal::OtherNode {
            account,
            claimed,
            actual,
        }),
        (Some(node), _) | (None, Some(node)) => Ok(node),
        (None, None) => Err(Refusal::NoNode { account }),
    }
}

#[cfg(test)]
#[path = "permission_tests.rs"]
mod tests;
