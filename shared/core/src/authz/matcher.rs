//! Whether one rule, clause or match holds. Compares in place, without building the principal.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Facts;
use crate::identity::Identity;
use crate::model::{AuthorizationPolicy, Clause, Match, Rule, ServiceAccountMatch, StringMatch};

/// Position of the first rule of the policy that matches.
#[must_use]
pub fn matching_rule(policy: &AuthorizationPolicy, facts: &Facts<'_>) -> Option<usize> {
    policy.rules.iter().position(|rule| rule_holds(rule, facts))
}

fn rule_holds(rule: &Rule, facts: &Facts<'_>) -> bool {
    rule.clauses
        .iter()
        .all(|clause| clause_holds(clause, facts))
}

fn clause_holds(clause: &Clause, facts: &Facts<'_>) -> bool {
    clause.matches.iter().any(|m| matches(m, facts))
}

/// Whether every field that is set holds. A match without any field never does.
///
/// Without a source identity no value of an identity field holds: the positive fields fail, the
/// `not_` fields hold.
#[must_use]
pub fn matches(m: &Match, facts: &Facts<'_>) -> bool {
    if is_empty(m) {
        return false;
    }
    let source_ip = facts.source_ip.to_canonical();
    let destination_ip = facts.destination.ip().to_canonical();
    let port = facts.destination.port();
    let namespace = |text: &StringMatch| facts.source.is_some_and(|id| in_namespace(text, id));
    let principal = |text: &StringMatch| facts.source.is_some_and(|id| is_principal(text, id));
    let account = |name: &ServiceAccountMatch| facts.source.is_some_and(|id| is_account(name, id));
    field(&m.source_ips, &m.not_source_ips, |net| {
        within(net, source_ip)
    }) && field(&m.destination_ips, &m.not_destination_ips, |net| {
        within(net, destination_ip)
    }) && field(&m.destination_ports, &m.not_destination_ports, |allowed| {
        *allowed == port
    }) && field(&m.namespaces, &m.not_namespaces, namespace)
        && field(&m.principals, &m.not_principals, principal)
        && field(&m.service_accounts, &m.not_service_accounts, account)
}

/// One value of `any` holds, if there is one, and no value of `none`.
fn field<T>(any: &[T], none: &[T], holds: impl Fn(&T) -> bool) -> bool {
    (any.is_empty() || any.iter().any(&holds)) && !none.iter().any(&holds)
}

fn is_empty(m: &Match) -> bool {
    m.namespaces.is_empty()
        && m.not_namespaces.is_empty()
        && m.principals.is_empty()
        && m.not_principals.is_empty()
        && m.source_ips.is_empty()
        && m.not_source_ips.is_empty()
        && m.destination_ips.is_empty()
        && m.not_destination_ips.is_empty()
        && m.destination_ports.is_empty()
        && m.not_destination_ports.is_empty()
        && m.service_accounts.is_empty()
        && m.not_service_accounts.is_empty()
}

fn within(net: &IpNet, ip: IpAddr) -> bool {
    net.contains(&ip)
}

fn in_namespace(text: &StringMatch, id: &Identity) -> bool {
    holds(text, &[id.namespace()])
}

fn is_principal(text: &StringMatch, id: &Identity) -> bool {
    let parts: [&str; 5] = [
        id.trust_domain(),
        "/ns/",
        id.namespace(),
        "/sa/",
        id.service_account(),
    ];
    holds(text, &parts)
}

fn is_account(name: &ServiceAccountMatch, id: &Identity) -> bool {
    name.namespace == *id.namespace() && name.service_account == *id.service_account()
}

/// Compares with a text given in parts.
fn holds(text: &StringMatch, parts: &[&str]) -> bool {
    match text {
        StringMatch::Exact(exact) => without_front(exact, parts) == Some(("", true)),
        StringMatch::Prefix(prefix) => matches!(without_front(prefix, parts), Some(("", _))),
        StringMatch::Suffix(suffix) => without_back(suffix, parts),
        StringMatch::Presence => parts.iter().any(|part| !part.is_empty()),
    }
}

/// What is left of `value` after as many of the parts as it covers, and whether it covered all.
fn without_front<'v>(value: &'v str, parts: &[&str]) -> Option<(&'v str, bool)> {
    let mut rest = value;
    for part in parts {
        if rest.len() < part.len() {
            return part.starts_with(rest).then_some(("", false));
        }
        rest = rest.strip_prefix(part)?;
    }
    Some((rest, true))
}

fn without_back(value: &str, parts: &[&str]) -> bool {
    let mut rest = value;
    for part in parts.iter().rev() {
        if rest.len() < part.len() {
            return part.ends_with(rest);
        }
        match rest.strip_suffix(part) {
            Some(left) => rest = left,
            None => return false,
        }
    }
    rest.is_empty()
}
