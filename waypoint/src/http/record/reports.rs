//! Policies that report without deciding: dry runs, and those with the action AUDIT.

use ambit_http::authz::Verdict;
use ambit_http::model::Action;

/// What they report of a request or connection, a line each for the access log. Each is counted:
/// `ambit_policy_reports_total` by policy, and by what it would have done.
pub(crate) fn reported(verdict: &Verdict) -> Vec<String> {
    let dry_runs = verdict.dry_run.iter().map(|hit| {
        let would = match hit.action {
            Action::Allow => "allow",
            Action::Custom(_) => "ask",
            _ => "deny",
        };
        count(&hit.policy, would);
        format!("dry-run policy {} would {would}", hit.policy)
    });
    let audits = verdict.audit.iter().map(|hit| {
        count(&hit.policy, "audit");
        format!("audit policy {}", hit.policy)
    });
    dry_runs.chain(audits).collect()
}

fn count(policy: &impl ToString, effect: &'static str) {
    metrics::counter!("ambit_policy_reports_total", "policy" => policy.to_string(), "effect" => effect)
        .increment(1);
}
