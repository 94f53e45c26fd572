//! `ambit.waypoint.Policy` and `ambit.waypoint.Authorizer`.

use std::net::IpAddr;

use ambit_core::convert::ConvertError;
use ambit_core::convert::error::{At, each, known, port};
use ambit_core::model::ServiceAccountMatch;
use ambit_proto::waypoint as proto;
use ipnet::IpNet;
use proto::condition::Kind;

use super::value::{
    backend, duration, filled, header_name, name, required, shared, targets, text, wire_backend,
    wire_duration, wire_headers, wire_name, wire_targets, wire_text, wire_texts, within,
};
use crate::model::policy::{PathPattern, Values};
use crate::model::{
    Action, Authorizer, AuthorizerKind, Condition, Operation, Policy, Rule, Source, TextMatch,
};

pub(super) fn policy(wire: &proto::Policy) -> Result<Policy, ConvertError> {
    Ok(Policy {
        key: name("key", wire.key.as_ref())?,
        targets: targets(&wire.targets)?,
        action: action(wire)?,
        rules: each("rules", &wire.rules, |rule| {
            Ok(Rule {
                from: each("from", &rule.from, source)?,
                to: each("to", &rule.to, operation)?,
                when: each("when", &rule.when, condition)?,
            })
        })?,
        dry_run: wire.dry_run,
        undecodable: wire.undecodable.as_deref().map(Into::into),
    })
}

/// A policy that denies all that it is attached to; a dry run stays one.
pub(super) fn refusing(wire: &proto::Policy, reason: &str) -> Option<Policy> {
    Some(Policy {
        key: name("key", wire.key.as_ref()).ok()?,
        targets: targets(&wire.targets).ok()?,
        action: Action::Deny,
        rules: Vec::new(),
        dry_run: wire.dry_run,
        undecodable: Some(reason.into()),
    })
}

fn action(wire: &proto::Policy) -> Result<Action, ConvertError> {
    match known("action", wire.action, "a known action")? {
        proto::Action::Custom => name("authorizer", wire.authorizer.as_ref()).map(Action::Custom),
        proto::Action::Deny => Ok(Action::Deny),
        proto::Action::Allow => Ok(Action::Allow),
        proto::Action::Audit => Ok(Action::Audit),
        proto::Action::Unspecified => Err(ConvertError::new("action", (), "a known action")),
    }
}

fn source(wire: &proto::Source) -> Result<Source, ConvertError> {
    Ok(Source {
        principals: texts("principals", wire.principals.as_ref())?,
        request_principals: texts("request_principals", wire.request_principals.as_ref())?,
        namespaces: texts("namespaces", wire.namespaces.as_ref())?,
        service_accounts: accounts("service_accounts", wire.service_accounts.as_ref())?,
        ip_blocks: nets("ip_blocks", wire.ip_blocks.as_ref())?,
        remote_ip_blocks: nets("remote_ip_blocks", wire.remote_ip_blocks.as_ref())?,
    })
}

fn operation(wire: &proto::Operation) -> Result<Operation, ConvertError> {
    Ok(Operation {
        hosts: texts("hosts", wire.hosts.as_ref())?,
        ports: ports("ports", wire.ports.as_ref())?,
        methods: texts("methods", wire.methods.as_ref())?,
        paths: paths("paths", wire.paths.as_ref())?,
    })
}

fn condition(wire: &proto::Condition) -> Result<Condition, ConvertError> {
    Ok(match &wire.kind {
        Some(Kind::Header(it)) => Condition::Header(
            header_name(&it.name).at("header.name")?,
            texts("header.values", it.values.as_ref())?,
        ),
        Some(Kind::SourceIp(it)) => Condition::SourceIp(nets("source_ip", Some(it))?),
        Some(Kind::RemoteIp(it)) => Condition::RemoteIp(nets("remote_ip", Some(it))?),
        Some(Kind::SourceNamespace(it)) => {
            Condition::SourceNamespace(texts("source_namespace", Some(it))?)
        }
        Some(Kind::SourcePrincipal(it)) => {
            Condition::SourcePrincipal(texts("source_principal", Some(it))?)
        }
        Some(Kind::SourceServiceAccount(it)) => {
            Condition::SourceServiceAccount(accounts("source_service_account", Some(it))?)
        }
        Some(Kind::RequestPrincipal(it)) => {
            Condition::RequestPrincipal(texts("request_principal", Some(it))?)
        }
        Some(Kind::Audiences(it)) => Condition::Audiences(texts("audiences", Some(it))?),
        Some(Kind::Presenter(it)) => Condition::Presenter(texts("presenter", Some(it))?),
        Some(Kind::Claim(it)) => {
            if it.path.is_empty() {
                return Err(ConvertError::new("claim.path", (), "at least one name"));
            }
            Condition::Claim(shared(&it.path), texts("claim.values", it.values.as_ref())?)
        }
        Some(Kind::DestinationIp(it)) => {
            Condition::DestinationIp(nets("destination_ip", Some(it))?)
        }
        Some(Kind::DestinationPort(it)) => {
            Condition::DestinationPort(ports("destination_port", Some(it))?)
        }
        Some(Kind::Sni(it)) => Condition::Sni(texts("sni", Some(it))?),
        Some(Kind::Unknown(key)) => Condition::Unknown(key.as_str().into()),
        None => return Err(ConvertError::new("", (), "a known condition")),
    })
}

fn texts(field: &str, wire: Option<&proto::Texts>) -> Result<Values<TextMatch>, ConvertError> {
    let Some(wire) = wire else {
        return Ok(Values::default());
    };
    values(field, &wire.any, &wire.none, text)
}

fn accounts(
    field: &str,
    wire: Option<&proto::Accounts>,
) -> Result<Values<ServiceAccountMatch>, ConvertError> {
    let Some(wire) = wire else {
        return Ok(Values::default());
    };
    values(field, &wire.any, &wire.none, |wire| {
        let found = name("", Some(wire))?;
        Ok(ServiceAccountMatch {
            namespace: found.namespace,
            service_account: found.name,
        })
    })
}

fn nets(field: &str, wire: Option<&proto::Nets>) -> Result<Values<IpNet>, ConvertError> {
    let Some(wire) = wire else {
        return Ok(Values::default());
    };
    values(field, &wire.any, &wire.none, |text| {
        let net: IpNet = text
            .parse()
            .map_err(|_| ConvertError::new("", text, "an address and a prefix length"))?;
        unmapped(net).ok_or_else(|| ConvertError::new("", text, "a prefix of one address family"))
    })
}

/// Without host bits. IPv4-mapped ones are IPv4, as peers' addresses are.
fn unmapped(net: IpNet) -> Option<IpNet> {
    match net.addr().to_canonical() {
        ip @ IpAddr::V4(_) if matches!(net, IpNet::V6(_)) => {
            let length = net.prefix_len().checked_sub(96)?;
            IpNet::new(ip, length).ok().map(|net| net.trunc())
        }
        _ => Some(net.trunc()),
    }
}

fn ports(field: &str, wire: Option<&proto::Ports>) -> Result<Values<u16>, ConvertError> {
    let Some(wire) = wire else {
        return Ok(Values::default());
    };
    values(field, &wire.any, &wire.none, |number| port("", *number))
}

fn paths(field: &str, wire: Option<&proto::Paths>) -> Result<Values<PathPattern>, ConvertError> {
    use proto::path_pattern::Kind;
    let Some(wire) = wire else {
        return Ok(Values::default());
    };
    values(field, &wire.any, &wire.none, |wire| match &wire.kind {
        Some(Kind::Text(it)) => text(it).map(PathPattern::Text),
        Some(Kind::Template(it)) => filled("", it).map(PathPattern::Template),
        None => Err(ConvertError::new("", (), "a text or a template")),
    })
}

fn values<W, T>(
    field: &str,
    any: &[W],
    none: &[W],
    convert: impl Fn(&W) -> Result<T, ConvertError>,
) -> Result<Values<T>, ConvertError> {
    let found = each("any", any, &convert).and_then(|any| {
        let none = each("none", none, &convert)?;
        Ok(Values { any, none })
    });
    found.at(field)
}

pub(super) fn authorizer(wire: &proto::Authorizer) -> Result<Authorizer, ConvertError> {
    use proto::authorizer::Kind;
    Ok(Authorizer {
        key: name("key", wire.key.as_ref())?,
        kind: match required("kind", wire.kind.as_ref(), "grpc or http")? {
            Kind::Grpc(_) => AuthorizerKind::Grpc,
            Kind::Http(prefix) => AuthorizerKind::Http {
                path_prefix: prefix.as_str().into(),
            },
        },
        backend: backend(wire.backend.as_ref())?,
        timeout: duration("timeout", wire.timeout.as_ref())?,
        fail_open: wire.fail_open,
        status_on_error: within(
            "status_on_error",
            wire.status_on_error,
            400..=599,
            "a status of 400 to 599",
        )?,
        request_headers: each("request_headers", &wire.request_headers, |n| header_name(n))?,
        upstream_headers: each("upstream_headers", &wire.upstream_headers, |n| {
            header_name(n)
        })?,
        body_limit: wire.body_limit,
    })
}

impl From<&Policy> for proto::Policy {
    fn from(policy: &Policy) -> Self {
        let (action, authorizer) = match &policy.action {
            Action::Custom(key) => (proto::Action::Custom, Some(wire_name(key))),
            Action::Deny => (proto::Action::Deny, None),
            Action::Allow => (proto::Action::Allow, None),
            Action::Audit => (proto::Action::Audit, None),
        };
        Self {
            key: Some(wire_name(&policy.key)),
            targets: wire_targets(&policy.targets),
            action: action.into(),
            authorizer,
            rules: policy
                .rules
                .iter()
                .map(|rule| proto::Rule {
                    from: rule.from.iter().map(wire_source).collect(),
                    to: rule.to.iter().map(wire_operation).collect(),
                    when: rule.when.iter().map(wire_condition).collect(),
                })
                .collect(),
            dry_run: policy.dry_run,
            undecodable: policy.undecodable.as_deref().map(str::to_owned),
        }
    }
}

fn wire_source(source: &Source) -> proto::Source {
    proto::Source {
        principals: some(&source.principals, wire_values),
        request_principals: some(&source.request_principals, wire_values),
        namespaces: some(&source.namespaces, wire_values),
        service_accounts: some(&source.service_accounts, wire_accounts),
        ip_blocks: some(&source.ip_blocks, wire_nets),
        remote_ip_blocks: some(&source.remote_ip_blocks, wire_nets),
    }
}

fn wire_operation(operation: &Operation) -> proto::Operation {
    proto::Operation {
        hosts: some(&operation.hosts, wire_values),
        ports: some(&operation.ports, wire_ports),
        methods: some(&operation.methods, wire_values),
        paths: some(&operation.paths, wire_paths),
    }
}

fn wire_condition(condition: &Condition) -> proto::Condition {
    let kind = match condition {
        Condition::Header(name, values) => Kind::Header(proto::HeaderCondition {
            name: name.to_string(),
            values: Some(wire_values(values)),
        }),
        Condition::SourceIp(values) => Kind::SourceIp(wire_nets(values)),
        Condition::RemoteIp(values) => Kind::RemoteIp(wire_nets(values)),
        Condition::SourceNamespace(values) => Kind::SourceNamespace(wire_values(values)),
        Condition::SourcePrincipal(values) => Kind::SourcePrincipal(wire_values(values)),
        Condition::SourceServiceAccount(values) => {
            Kind::SourceServiceAccount(wire_accounts(values))
        }
        Condition::RequestPrincipal(values) => Kind::RequestPrincipal(wire_values(values)),
        Condition::Audiences(values) => Kind::Audiences(wire_values(values)),
        Condition::Presenter(values) => Kind::Presenter(wire_values(values)),
        Condition::Claim(path, values) => Kind::Claim(proto::ClaimCondition {
            path: wire_texts(path),
            values: Some(wire_values(values)),
        }),
        Condition::DestinationIp(values) => Kind::DestinationIp(wire_nets(values)),
        Condition::DestinationPort(values) => Kind::DestinationPort(wire_ports(values)),
        Condition::Sni(values) => Kind::Sni(wire_values(values)),
        Condition::Unknown(key) => Kind::Unknown(key.to_string()),
    };
    proto::Condition { kind: Some(kind) }
}

/// Nothing to look at is not sent.
fn some<T, W>(values: &Values<T>, wire: impl Fn(&Values<T>) -> W) -> Option<W> {
    (!values.is_empty()).then(|| wire(values))
}

fn wire_values(values: &Values<TextMatch>) -> proto::Texts {
    proto::Texts {
        any: values.any.iter().map(wire_text).collect(),
        none: values.none.iter().map(wire_text).collect(),
    }
}

fn wire_accounts(values: &Values<ServiceAccountMatch>) -> proto::Accounts {
    let list = |accounts: &[ServiceAccountMatch]| {
        let names = accounts.iter().map(|account| proto::Name {
            namespace: account.namespace.to_string(),
            name: account.service_account.to_string(),
        });
        names.collect()
    };
    proto::Accounts {
        any: list(&values.any),
        none: list(&values.none),
    }
}

fn wire_nets(values: &Values<IpNet>) -> proto::Nets {
    proto::Nets {
        any: values.any.iter().map(ToString::to_string).collect(),
        none: values.none.iter().map(ToString::to_string).collect(),
    }
}

fn wire_ports(values: &Values<u16>) -> proto::Ports {
    proto::Ports {
        any: values.any.iter().map(|port| u32::from(*port)).collect(),
        none: values.none.iter().map(|port| u32::from(*port)).collect(),
    }
}

fn wire_paths(values: &Values<PathPattern>) -> proto::Paths {
    use proto::path_pattern::Kind;
    let list = |patterns: &[PathPattern]| {
        let patterns = patterns.iter().map(|pattern| proto::PathPattern {
            kind: Some(match pattern {
                PathPattern::Text(text) => Kind::Text(wire_text(text)),
                PathPattern::Template(text) => Kind::Template(text.to_string()),
            }),
        });
        patterns.collect()
    };
    proto::Paths {
        any: list(&values.any),
        none: list(&values.none),
    }
}

impl From<&Authorizer> for proto::Authorizer {
    fn from(authorizer: &Authorizer) -> Self {
        use proto::authorizer::Kind;
        Self {
            key: Some(wire_name(&authorizer.key)),
            kind: Some(match &authorizer.kind {
                AuthorizerKind::Grpc => Kind::Grpc(proto::Empty {}),
                AuthorizerKind::Http { path_prefix } => Kind::Http(path_prefix.to_string()),
            }),
            backend: Some(wire_backend(&authorizer.backend)),
            timeout: Some(wire_duration(authorizer.timeout)),
            fail_open: authorizer.fail_open,
            status_on_error: authorizer.status_on_error.into(),
            request_headers: wire_headers(&authorizer.request_headers),
            upstream_headers: wire_headers(&authorizer.upstream_headers),
            body_limit: authorizer.body_limit,
        }
    }
}
