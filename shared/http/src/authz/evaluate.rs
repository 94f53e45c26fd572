//! The order of policies: CUSTOM, DENY, what is not understood, ALLOW.

use std::sync::Arc;

use super::matcher::matching_rule;
use super::{Ask, Decision, Facts, Hit, Reason, Verdict};
use crate::model::policy::{Action, Policy};

/// Whether what these facts tell of may go on. `policies` are those that apply.
///
/// Allocates only for what there is to report: authorizers to ask, dry-run and AUDIT hits.
#[must_use]
pub fn authorize<'p>(policies: impl IntoIterator<Item = &'p Policy>, facts: &Facts<'_>) -> Verdict {
    pass(policies, facts).verdict(true)
}

/// The same when every authorizer of [`Decision::Ask`] has allowed: DENY and ALLOW judge the request as
/// the authorizers left it. Never answers [`Decision::Ask`].
#[must_use]
pub fn authorize_asked<'p>(
    policies: impl IntoIterator<Item = &'p Policy>,
    facts: &Facts<'_>,
) -> Verdict {
    pass(policies, facts).verdict(false)
}

fn pass<'p>(policies: impl IntoIterator<Item = &'p Policy>, facts: &Facts<'_>) -> Seen {
    let mut seen = Seen::default();
    for policy in policies {
        match &policy.undecodable {
            Some(reason) => seen.broken(policy, reason),
            None if policy.dry_run => seen.dry_run(policy, matching_rule(policy, facts)),
            None => seen.look(policy, facts),
        }
    }
    seen
}

/// What one pass over the policies found.
#[derive(Default)]
struct Seen {
    asks: Vec<Ask>,
    denied: Option<Reason>,
    broken: Option<Reason>,
    allowed: Option<Reason>,
    none_allows: Option<Reason>,
    audit: Vec<Hit>,
    dry_run: Vec<Hit>,
    dry_run_policies: bool,
    dry_run_allow_policies: bool,
}

impl Seen {
    fn look(&mut self, policy: &Policy, facts: &Facts<'_>) {
        // One that allows is enough; the rest of them is not looked at.
        if policy.action == Action::Allow && self.allowed.is_some() {
            return;
        }
        let rule = matching_rule(policy, facts);
        let key = || policy.key.clone();
        match (&policy.action, rule) {
            (Action::Custom(authorizer), Some(rule)) => {
                if !self.asks.iter().any(|ask| ask.authorizer == *authorizer) {
                    self.asks.push(Ask {
                        authorizer: authorizer.clone(),
                        policy: key(),
                        rule,
                    });
                }
            }
            (Action::Deny, Some(rule)) => {
                let policy = key();
                self.denied.get_or_insert(Reason::Denied { policy, rule });
            }
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
            (Action::Audit, Some(rule)) => self.audit.push(hit(policy, Some(rule))),
            (Action::Custom(_) | Action::Deny | Action::Audit, None) => {}
        }
    }

    fn dry_run(&mut self, policy: &Policy, rule: Option<usize>) {
        self.dry_run_policies |= matches!(policy.action, Action::Allow | Action::Deny);
        self.dry_run_allow_policies |= policy.action == Action::Allow;
        if rule.is_some() {
            self.dry_run.push(hit(policy, rule));
        }
    }

    /// A dry-run policy does nothing, whatever is wrong with it.
    fn broken(&mut self, policy: &Policy, reason: &Arc<str>) {
        if policy.dry_run {
            self.dry_run_policies = true;
            let action = Action::Deny;
            let policy = policy.key.clone();
            let rule = None;
            self.dry_run.push(Hit {
                policy,
                rule,
                action,
            });
            return;
        }
        self.broken.get_or_insert_with(|| Reason::Undecodable {
            policy: policy.key.clone(),
            reason: reason.clone(),
        });
    }

    fn verdict(self, ask: bool) -> Verdict {
        let enforced = self.dry_run_policies.then(|| self.enforced());
        // Nobody is asked about what no answer can save.
        let ask = ask && self.broken.is_none() && !self.asks.is_empty();
        let refusal = self.denied.or(self.broken);
        let (allowed, reason) = match (refusal, self.allowed, self.none_allows) {
            (Some(reason), _, _) => (false, reason),
            (None, Some(reason), _) => (true, reason),
            (None, None, Some(reason)) => (false, reason),
            (None, None, None) => (true, Reason::NoPolicy),
        };
        let decision = match (ask, allowed) {
            (true, _) => Decision::Ask(self.asks),
            (false, true) => Decision::Allow,
            (false, false) => Decision::Deny,
        };
        Verdict {
            decision,
            reason,
            dry_run: self.dry_run,
            audit: self.audit,
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

fn hit(policy: &Policy, rule: Option<usize>) -> Hit {
    Hit {
        policy: policy.key.clone(),
        rule,
        action: policy.action.clone(),
    }
}
