//! Machines without a kubelet: a WorkloadEntry says that there is one, and as whom it runs.
//!
//! A machine's certificate has the name of its entry in it, as nobody else's has. So a certificate proves who asks for the next
//! one if it is a machine's, and a pod's never does: its key is good until it expires, and whoever stole it has no more of it.

use std::sync::Arc;

use crate::index::Index;
use crate::tokens::Caller;

/// `dnQualifier` (RFC 5280 section 4.1.2.4): a part of the subject that says nothing to those who ask only for identities.
pub(super) const DN_QUALIFIER: [u64; 4] = [2, 5, 4, 46];
const PREFIX: &str = "WorkloadEntry/";

/// How the certificate of an entry's machine is marked.
pub(super) fn qualifier(entry: &str) -> String {
    format!("{PREFIX}{entry}")
}

/// The entry that a mark names.
#[must_use]
pub fn entry_of(qualifier: &str) -> Option<&str> {
    let entry = qualifier.strip_prefix(PREFIX)?;
    (!entry.is_empty()).then_some(entry)
}

/// Why somebody is no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("there is no WorkloadEntry {namespace}/{entry}: create it, or let the machine go")]
    NoEntry {
        namespace: Arc<str>,
        entry: Arc<str>,
    },
    #[error(
        "WorkloadEntry {namespace}/{entry} runs as service account {actual}, not as {claimed}: see its spec.serviceAccount"
    )]
    OtherAccount {
        namespace: Arc<str>,
        entry: Arc<str>,
        actual: String,
        claimed: Arc<str>,
    },
    #[error(
        "the certificate is of WorkloadEntry {own}, not of {wanted}: write a new token for that"
    )]
    OtherEntry { own: Arc<str>, wanted: Arc<str> },
    #[error("the token of {account} is bound to a pod, which is no machine with a WorkloadEntry")]
    Pod { account: String },
}

/// The WorkloadEntry of a caller that says it is the machine of `wanted`, or has shown a certificate of one. Nothing of a caller
/// that says neither.
///
/// # Errors
/// It is not: there has to be such an entry, now, with the caller's service account.
pub fn of(
    caller: &Caller,
    wanted: Option<&str>,
    index: &Index,
) -> Result<Option<Arc<str>>, Refusal> {
    let entry: Arc<str> = match (&caller.entry, wanted) {
        (None, None) => return Ok(None),
        (Some(own), Some(wanted)) if **own != *wanted => {
            return Err(Refusal::OtherEntry {
                own: own.clone(),
                wanted: wanted.into(),
            });
        }
        (Some(own), _) => own.clone(),
        (None, Some(_)) if caller.pod.is_some() => {
            return Err(Refusal::Pod {
                account: caller.account(),
            });
        }
        (None, Some(wanted)) => wanted.into(),
    };
    let namespace = caller.namespace.clone();
    let found = index.objects().workload_entries.find(&namespace, &entry);
    let Some(found) = found else {
        return Err(Refusal::NoEntry { namespace, entry });
    };
    let account = found.spec.account();
    if *account != *caller.service_account {
        return Err(Refusal::OtherAccount {
            namespace,
            entry,
            actual: account.to_owned(),
            claimed: caller.service_account.clone(),
        });
    }
    Ok(Some(entry))
}
