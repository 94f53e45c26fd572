//! `istio.security.Authorization`. Every value must decode: leaving one out would widen the match,
//! and leaving all out would switch the rule off.

use ambit_proto::security as proto;
use ipnet::IpNet;
use prost::Message;
use proto::string_match::MatchType;

use super::error::{ConvertError, each, known, port};
use super::gateway::{ip_bytes, prefix, service_key};
use crate::model::policy::Scope;
use crate::model::{
    Action, AuthorizationPolicy, Clause, Match, Rule, ServiceAccountMatch, StringMatch,
};

/// Reads an encoded `istio.security.Authorization`.
///
/// # Errors
/// The first value that does not decode.
pub fn decode_authorization(bytes: &[u8]) -> Result<AuthorizationPolicy, ConvertError> {
    AuthorizationPolicy::try_from(&decode(bytes)?)
}

pub(super) fn decode(bytes: &[u8]) -> Result<proto::Authorization, ConvertError> {
    proto::Authorization::decode(bytes)
        .map_err(|error| ConvertError::new("", error.to_string(), "istio.security.Authorization"))
}

impl TryFrom<&proto::Authorization> for AuthorizationPolicy {
    type Error = ConvertError;

    fn try_from(wire: &proto::Authorization) -> Result<Self, Self::Error> {
        policy(wire).map_err(|error| error.of(format!("{}/{}", wire.namespace, wire.name)))
    }
}

/// The scope alone, when it can be read.
pub(super) fn scope(value: i32) -> Result<Scope, ConvertError> {
    Ok(match known("scope", value, "a known scope")? {
        proto::Scope::Global => Scope::Global,
        proto::Scope::Namespace => Scope::Namespace,
        proto::Scope::WorkloadSelector => Scope::WorkloadSelector,
    })
}

fn policy(wire: &proto::Authorization) -> Result<AuthorizationPolicy, ConvertError> {
    Ok(AuthorizationPolicy {
        key: service_key("namespace, name", &wire.namespace, &wire.name)?,
        scope: scope(wire.scope)?,
        action: match known("action", wire.action, "ALLOW or DENY")? {
            proto::Action::Allow => Action::Allow,
            proto::Action::Deny => Action::Deny,
        },
        rules: each("rules", &wire.rules, |rule| {
            let clauses = each("clauses", &rule.clauses, |clause| {
                let matches = each("matches", &clause.matches, one_match)?;
                Ok(Clause { matches })
            })?;
            Ok(Rule { clauses })
        })?,
        dry_run: wire.dry_run,
    })
}

fn one_match(wire: &proto::Match) -> Result<Match, ConvertError> {
    let texts = |field, values: &[proto::StringMatch]| each(field, values, text);
    let nets = |field, values: &[proto::Address]| each(field, values, net);
    let ports = |field, values: &[u32]| each(field, values, |number| port("", *number));
    let accounts = |field, values: &[proto::ServiceAccountMatch]| each(field, values, account);
    Ok(Match {
        namespaces: texts("namespaces", &wire.namespaces)?,
        not_namespaces: texts("not_namespaces", &wire.not_namespaces)?,
        principals: texts("principals", &wire.principals)?,
        not_principals: texts("not_principals", &wire.not_principals)?,
        source_ips: nets("source_ips", &wire.source_ips)?,
        not_source_ips: nets("not_source_ips", &wire.not_source_ips)?,
        destination_ips: nets("destination_ips", &wire.destination_ips)?,
        not_destination_ips: nets("not_destination_ips", &wire.not_destination_ips)?,
        destination_ports: ports("destination_ports", &wire.destination_ports)?,
        not_destination_ports: ports("not_destination_ports", &wire.not_destination_ports)?,
        service_accounts: accounts("service_accounts", &wire.service_accounts)?,
        not_service_accounts: accounts("not_service_accounts", &wire.not_service_accounts)?,
    })
}

fn text(wire: &proto::StringMatch) -> Result<StringMatch, ConvertError> {
    match &wire.match_type {
        Some(MatchType::Exact(text)) => Ok(StringMatch::Exact(text.as_str().into())),
        Some(MatchType::Prefix(text)) => Ok(StringMatch::Prefix(text.as_str().into())),
        Some(MatchType::Suffix(text)) => Ok(StringMatch::Suffix(text.as_str().into())),
        Some(MatchType::Presence(_)) => Ok(StringMatch::Presence),
        None => Err(ConvertError::new(
            "",
            (),
            "exact, prefix, suffix or presence",
        )),
    }
}

fn net(wire: &proto::Address) -> Result<IpNet, ConvertError> {
    prefix(&wire.address, Some(wire.length))
}

fn account(wire: &proto::ServiceAccountMatch) -> Result<ServiceAccountMatch, ConvertError> {
    if wire.namespace.is_empty() || wire.service_account.is_empty() {
        let found = format!("{}/{}", wire.namespace, wire.service_account);
        return Err(ConvertError::new(
            "",
            found,
            "a namespace and a service account",
        ));
    }
    Ok(ServiceAccountMatch {
        namespace: wire.namespace.as_str().into(),
        service_account: wire.service_account.as_str().into(),
    })
}

impl From<&AuthorizationPolicy> for proto::Authorization {
    fn from(policy: &AuthorizationPolicy) -> Self {
        Self {
            name: policy.key.name.to_string(),
            namespace: policy.key.namespace.to_string(),
            scope: match policy.scope {
                Scope::Global => proto::Scope::Global,
                Scope::Namespace => proto::Scope::Namespace,
                Scope::WorkloadSelector => proto::Scope::WorkloadSelector,
            }
            .into(),
            action: match policy.action {
                Action::Allow => proto::Action::Allow,
                Action::Deny => proto::Action::Deny,
            }
            .into(),
            rules: policy
                .rules
                .iter()
                .map(|rule| proto::Rule {
                    clauses: rule.clauses.iter().map(wire_clause).collect(),
                })
                .collect(),
            dry_run: policy.dry_run,
        }
    }
}

fn wire_clause(clause: &Clause) -> proto::Clause {
    proto::Clause {
        matches: clause.matches.iter().map(wire_match).collect(),
    }
}

fn wire_match(m: &Match) -> proto::Match {
    let texts = |values: &[StringMatch]| values.iter().map(wire_text).collect();
    let nets = |values: &[IpNet]| values.iter().map(wire_net).collect();
    let ports = |values: &[u16]| values.iter().map(|port| u32::from(*port)).collect();
    let accounts = |values: &[ServiceAccountMatch]| values.iter().map(wire_account).collect();
    proto::Match {
        namespaces: texts(&m.namespaces),
        not_namespaces: texts(&m.not_namespaces),
        principals: texts(&m.principals),
        not_principals: texts(&m.not_principals),
        source_ips: nets(&m.source_ips),
        not_source_ips: nets(&m.not_source_ips),
        destination_ips: nets(&m.destination_ips),
        not_destination_ips: nets(&m.not_destination_ips),
        destination_ports: ports(&m.destination_ports),
        not_destination_ports: ports(&m.not_destination_ports),
        service_accounts: accounts(&m.service_accounts),
        not_service_accounts: accounts(&m.not_service_accounts),
    }
}

fn wire_text(text: &StringMatch) -> proto::StringMatch {
    let match_type = match text {
        StringMatch::Exact(text) => MatchType::Exact(text.to_string()),
        StringMatch::Prefix(text) => MatchType::Prefix(text.to_string()),
        StringMatch::Suffix(text) => MatchType::Suffix(text.to_string()),
        StringMatch::Presence => MatchType::Presence(proto::Presence {}),
    };
    proto::StringMatch {
        match_type: Some(match_type),
    }
}

fn wire_net(net: &IpNet) -> proto::Address {
    proto::Address {
        address: ip_bytes(net.addr()).into(),
        length: net.prefix_len().into(),
    }
}

fn wire_account(account: &ServiceAccountMatch) -> proto::ServiceAccountMatch {
    proto::ServiceAccountMatch {
        namespace: account.namespace.to_string(),
        service_account: account.service_account.to_string(),
    }
}
