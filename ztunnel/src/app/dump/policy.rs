//! L4 policies, as `istioctl ztunnel-config policies` reads them.

use ambit_core::addr::NamespacedName;
use ambit_core::index::{Applicable, Index};
use ambit_core::model::{
    self, Action, AuthorizationPolicy, Scope, ServiceAccountMatch, StringMatch,
};
use ipnet::IpNet;
use serde::Serialize;

/// A policy, or why it cannot be judged.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy<'a> {
    key: &'a NamespacedName,
    name: &'a str,
    namespace: &'a str,
    scope: Option<Scope>,
    action: Option<Action>,
    /// Rules of clauses of matches.
    rules: Vec<Vec<Vec<Match<'a>>>>,
    dry_run: bool,
    /// It denies everything until it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecodable: Option<&'a str>,
    /// A workload names it, and discovery has not described it: it denies everything until then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unknown: bool,
}

/// What holds together; lists without a value say nothing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Match<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_namespaces: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    principals: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_principals: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    source_ips: &'a [IpNet],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    not_source_ips: &'a [IpNet],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    destination_ips: &'a [IpNet],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    not_destination_ips: &'a [IpNet],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    destination_ports: &'a [u16],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    not_destination_ports: &'a [u16],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_accounts: Vec<Account<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_service_accounts: Vec<Account<'a>>,
}

/// How a text is compared; the last form has no text, and an empty list in its place.
#[derive(Serialize)]
enum Text<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Suffix(&'a str),
    Presence(),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Account<'a> {
    namespace: &'a str,
    service_account: &'a str,
}

/// Every policy.
pub(super) fn policies(index: &Index) -> Vec<Policy<'_>> {
    let shown = index.policies().map(|policy| match policy {
        Applicable::Ready(policy) => ready(policy),
        Applicable::Undecodable(broken) => Policy {
            undecodable: Some(&broken.reason),
            ..nothing_but(&broken.key)
        },
        Applicable::Unknown(key) => Policy {
            unknown: true,
            ..nothing_but(key)
        },
    });
    shown.collect()
}

fn nothing_but(key: &NamespacedName) -> Policy<'_> {
    Policy {
        key,
        name: &key.name,
        namespace: &key.namespace,
        scope: None,
        action: None,
        rules: Vec::new(),
        dry_run: false,
        undecodable: None,
        unknown: false,
    }
}

fn ready(policy: &AuthorizationPolicy) -> Policy<'_> {
    Policy {
        scope: Some(policy.scope),
        action: Some(policy.action),
        rules: policy.rules.iter().map(clauses).collect(),
        dry_run: policy.dry_run,
        ..nothing_but(&policy.key)
    }
}

fn clauses(rule: &model::Rule) -> Vec<Vec<Match<'_>>> {
    rule.clauses.iter().map(matches).collect()
}

fn matches(clause: &model::Clause) -> Vec<Match<'_>> {
    let shown = clause.matches.iter().map(|it| Match {
        namespaces: texts(&it.namespaces),
        not_namespaces: texts(&it.not_namespaces),
        principals: texts(&it.principals),
        not_principals: texts(&it.not_principals),
        source_ips: &it.source_ips,
        not_source_ips: &it.not_source_ips,
        destination_ips: &it.destination_ips,
        not_destination_ips: &it.not_destination_ips,
        destination_ports: &it.destination_ports,
        not_destination_ports: &it.not_destination_ports,
        service_accounts: accounts(&it.service_accounts),
        not_service_accounts: accounts(&it.not_service_accounts),
    });
    shown.collect()
}

fn texts(all: &[StringMatch]) -> Vec<Text<'_>> {
    let shown = all.iter().map(|it| match it {
        StringMatch::Exact(text) => Text::Exact(text),
        StringMatch::Prefix(text) => Text::Prefix(text),
        StringMatch::Suffix(text) => Text::Suffix(text),
        StringMatch::Presence => Text::Presence(),
    });
    shown.collect()
}

fn accounts(all: &[ServiceAccountMatch]) -> Vec<Account<'_>> {
    let shown = all.iter().map(|it| Account {
        namespace: &it.namespace,
        service_account: &it.service_account,
    });
    shown.collect()
}
