//! The order of policies: DENY, what is not understood, ALLOW.

use super::matcher::matching_rule;
use super::{DryRunHit, Facts, Reason, Verdict};
use crate::index::{Applicable, Index};
use crate::model::{Action, Workload};

/// Whether a connection with these facts may reach `workload`.
///
/// Looks only at policies that apply, and allocates only for dry-run hits.
#[must_use]
pub fn authorize(index: &Index, workload: &Workload, facts: &Facts<'_>) -> Verdict {
    authorize_all(index, workload, std::slice::from_ref(facts))
}

/// [`authorize`] for a connection behind which there is more than one party, such as a waypoint and
/// who called it: a policy matches if it matches one of them. So one that is denied is enough to refuse,
/// and an ALLOW policy may name either.
#[must_use]
pub fn authorize_all(index: &Index, workload: &Workload, parties: &[Facts<'_>]) -> Verdict {
    let mut seen = Seen::default();
    if !index.policies_synced() {
        seen.broken = Some(Reason::NotSynced);
    }
    for policy in index.policies_for(workload) {
        seen.look(policy, parties);
    }
    seen.verdict()
}

/// What one pass over the policies found.
#[derive(Default)]
struct Seen {
    denied: Option<Reason>,
    broken: Option<Reason>,
    allowed: Option<Reason>,
    none_allows: Option<Reason>,
    dry_run: Vec<DryRunHit>,
    dry_run_policies: bool,
    dry_run_allow_policies: bool,
}

impl Seen {
    fn look(&mut self, policy: Applicable<'_>, parties: &[Facts<'_>]) {
        let policy = match policy {
            Applicable::Ready(policy) => policy,
            Applicable::Unknown(key) => {
                let policy = key.clone();
                self.broken.get_or_insert(Reason::Unknown { policy });
                return;
            }
            Applicable::Undecodable(broken) => {
                self.broken.get_or_insert(Reason::Undecodable {
                    policy: broken.key.clone(),
                    reason: broken.reason.clone(),
                });
                return;
            }
        };
        let rule = parties
            .iter()
            .find_map(|facts| matching_rule(policy, facts));
        let key = || policy.key.clone();
        if policy.dry_run {
            self.dry_run_policies = true;
            self.dry_run_allow_policies |= policy.action == Action::Allow;
            self.dry_run.extend(rule.map(|rule| DryRunHit {
                policy: key(),
                rule,
                action: policy.action,
            }));
            return;
        }
        match (policy.action, rule) {
            (Action::Deny, Some(rule)) => {
                let policy = key();
                self.denied.get_or_insert(Reason::Denied { policy, rule });
            }
            (Action::Deny, None) => {}
            (Action::Allow, Some(rule)) => {
                let policy = key();
                self.allowed.get_or_insert(Reason::Allowed { policy, rule });
            }
            (Action::Allow, None) => match &mut self.none_allows {
                Some(Reason::NoneAllows { policies, .. }) => *policies += 1,
                none => {
                    let first = key();
                    *none = Some(Reason::NoneAllows { policies: 1, first });
                }
            },
        }
    }

    fn verdict(self) -> Verdict {
        let enforced = self.dry_run_policies.then(|| self.enforced());
        let refusal = self.denied.or(self.broken);
        let (allowed, reason) = match (refusal, self.allowed, self.none_allows) {
            (Some(reason), _, _) => (false, reason),
            (None, Some(reason), _) => (true, reason),
            (None, None, Some(reason)) => (false, reason),
            (None, None, None) => (true, Reason::NoPolicy),
        };
        Verdict {
            allowed,
            reason,
            dry_run: self.dry_run,
            enforced,
        }
    }

    /// The answer if dry-run policies counted.
    fn enforced(&self) -> bool {
        let hit = |action| self.dry_run.iter().any(|hit| hit.action == action);
        let denied = self.denied.is_some() || self.broken.is_some() || hit(Action::Deny);
        let must_match =
            self.allowed.is_some() || self.none_allows.is_some() || self.dry_run_allow_policies;
        !denied && (!must_match || self.allowed.is_some() || hit(Action::Allow))
    }
}
