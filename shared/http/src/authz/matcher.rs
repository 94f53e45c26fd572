//! Whether one rule holds. Compares in place, without building the principal.

use std::net::IpAddr;

use ambit_core::identity::Identity;
use ambit_core::model::ServiceAccountMatch;
use http::HeaderName;
use http::header::HOST;

use super::text::{holds, host_holds, parts_hold, path_holds};
use super::{Facts, RequestFacts};
use crate::jwt::Claims;
use crate::model::TextMatch;
use crate::model::policy::{Action, Condition, Operation, Policy, Rule, Source, Values};

/// Position of the first rule of the policy that matches.
///
/// A missing attribute never satisfies a positive match and always a negative one, as in Istio,
/// which makes a `notX` the negation of an Envoy matcher that fails without a value
/// (pilot/pkg/security/authz/model). What a rule asks of something that cannot be judged (a field of HTTP on a
/// TCP connection, an unknown key) holds in DENY, CUSTOM and AUDIT and drops the rule in ALLOW: access never
/// widens.
#[must_use]
pub fn matching_rule(policy: &Policy, facts: &Facts<'_>) -> Option<usize> {
    let seen = Seen {
        facts,
        source_ip: facts.source_ip.to_canonical(),
        remote_ip: facts.remote_ip.to_canonical(),
        destination_ip: facts.destination.ip().to_canonical(),
        wide: policy.action != Action::Allow,
    };
    policy.rules.iter().position(|rule| seen.rule(rule))
}

/// The facts, and what a doubt means.
struct Seen<'f> {
    facts: &'f Facts<'f>,
    source_ip: IpAddr,
    remote_ip: IpAddr,
    destination_ip: IpAddr,
    /// What cannot be judged holds.
    wide: bool,
}

impl Seen<'_> {
    fn rule(&self, rule: &Rule) -> bool {
        if self.facts.request.is_none() && !self.wide && needs_request(rule) {
            return false;
        }
        (rule.from.is_empty() || rule.from.iter().any(|source| self.source(source)))
            && (rule.to.is_empty() || rule.to.iter().any(|operation| self.operation(operation)))
            && rule.when.iter().all(|condition| self.condition(condition))
    }

    fn source(&self, source: &Source) -> bool {
        if *source == Source::default() {
            return self.wide;
        }
        judge(&source.principals, |text| self.is_principal(text))
            && judge(&source.namespaces, |text| self.in_namespace(text))
            && judge(&source.service_accounts, |name| self.is_account(name))
            && judge(&source.ip_blocks, |net| net.contains(&self.source_ip))
            && judge(&source.remote_ip_blocks, |net| {
                net.contains(&self.remote_ip)
            })
            && self.claims(&source.request_principals, is_request_principal)
    }

    fn operation(&self, operation: &Operation) -> bool {
        if *operation == Operation::default() {
            return self.wide;
        }
        judge(&operation.ports, |port| self.is_port(*port))
            && self.request(&operation.methods, |text, request| {
                holds(text, request.method.as_str().as_bytes())
            })
            && self.request(&operation.hosts, |text, request| {
                host_holds(text, request.host)
            })
            && self.request(&operation.paths, |pattern, request| {
                path_holds(pattern, request.path)
            })
    }

    fn condition(&self, condition: &Condition) -> bool {
        if !says_something(condition) {
            return self.wide;
        }
        match condition {
            Condition::Header(name, values) => {
                self.request(values, |text, request| header_holds(text, name, request))
            }
            Condition::SourceIp(nets) => judge(nets, |net| net.contains(&self.source_ip)),
            Condition::RemoteIp(nets) => judge(nets, |net| net.contains(&self.remote_ip)),
            Condition::SourceNamespace(values) => judge(values, |text| self.in_namespace(text)),
            Condition::SourcePrincipal(values) => judge(values, |text| self.is_principal(text)),
            Condition::SourceServiceAccount(values) => judge(values, |name| self.is_account(name)),
            Condition::RequestPrincipal(values) => self.claims(values, is_request_principal),
            Condition::Audiences(values) => self.claims(values, |text, claims| {
                claims.audiences().any(|found| token_text(text, found))
            }),
            Condition::Presenter(values) => self.claims(values, |text, claims| {
                claims
                    .presenter()
                    .is_some_and(|found| token_text(text, found))
            }),
            Condition::Claim(path, values) => self.claims(values, |text, claims| {
                claims.any(path, |found| token_text(text, found))
            }),
            Condition::DestinationIp(nets) => judge(nets, |net| net.contains(&self.destination_ip)),
            Condition::DestinationPort(ports) => judge(ports, |port| self.is_port(*port)),
            Condition::Sni(values) => judge(values, |text| {
                let found = self.facts.sni;
                found.is_some_and(|found| host_holds(text, found))
            }),
            Condition::Unknown(_) => self.wide,
        }
    }

    /// A field that only requests have.
    fn request<T>(
        &self,
        values: &Values<T>,
        holds: impl Fn(&T, &RequestFacts<'_>) -> bool,
    ) -> bool {
        match &self.facts.request {
            Some(request) => judge(values, |value| holds(value, request)),
            None => self.wide || values.is_empty(),
        }
    }

    /// A field of the verified token.
    fn claims<T>(&self, values: &Values<T>, holds: impl Fn(&T, &Claims) -> bool) -> bool {
        self.request(values, |value, request| {
            request.claims.is_some_and(|claims| holds(value, claims))
        })
    }

    fn is_port(&self, port: u16) -> bool {
        port == self.facts.destination.port()
    }

    fn in_namespace(&self, text: &TextMatch) -> bool {
        let source = self.facts.source;
        source.is_some_and(|id| holds(text, id.namespace().as_bytes()))
    }

    fn is_principal(&self, text: &TextMatch) -> bool {
        let source = self.facts.source;
        source.is_some_and(|id: &Identity| {
            let (namespace, account) = (id.namespace(), id.service_account());
            parts_hold(
                text,
                &[id.trust_domain(), "/ns/", namespace, "/sa/", account],
            )
        })
    }

    fn is_account(&self, name: &ServiceAccountMatch) -> bool {
        self.facts.source.is_some_and(|id| {
            name.namespace == *id.namespace() && name.service_account == *id.service_account()
        })
    }
}

/// One of `any` holds, if there is one, and none of `none`.
fn judge<T>(values: &Values<T>, holds: impl Fn(&T) -> bool) -> bool {
    (values.any.is_empty() || values.any.iter().any(&holds)) && !values.none.iter().any(&holds)
}

/// `request.headers[host]` is the host, which HTTP/2 has no header for.
fn header_holds(text: &TextMatch, name: &HeaderName, request: &RequestFacts<'_>) -> bool {
    if name == HOST {
        return host_holds(text, request.host);
    }
    let mut values = request.headers.get_all(name).iter();
    values.any(|value| holds(text, value.as_bytes()))
}

/// `issuer/subject`; a token without one of them has no principal.
fn is_request_principal(text: &TextMatch, claims: &Claims) -> bool {
    match (claims.issuer(), claims.subject()) {
        (Some(issuer), Some(subject)) if !issuer.is_empty() && !subject.is_empty() => {
            parts_hold(text, &[issuer, "/", subject])
        }
        _ => false,
    }
}

/// An empty claim is not there (Istio compares `*` as `.+`).
fn token_text(text: &TextMatch, found: &str) -> bool {
    match text {
        TextMatch::Present => !found.is_empty(),
        text => holds(text, found.as_bytes()),
    }
}

fn needs_request(rule: &Rule) -> bool {
    rule.from.iter().any(|s| !s.request_principals.is_empty())
        || rule
            .to
            .iter()
            .any(|o| !(o.hosts.is_empty() && o.methods.is_empty() && o.paths.is_empty()))
        || rule.when.iter().any(|condition| {
            matches!(
                condition,
                Condition::Header(..)
                    | Condition::RequestPrincipal(_)
                    | Condition::Audiences(_)
                    | Condition::Presenter(_)
                    | Condition::Claim(..)
            )
        })
}

fn says_something(condition: &Condition) -> bool {
    match condition {
        Condition::Header(_, values)
        | Condition::SourceNamespace(values)
        | Condition::SourcePrincipal(values)
        | Condition::RequestPrincipal(values)
        | Condition::Audiences(values)
        | Condition::Presenter(values)
        | Condition::Claim(_, values)
        | Condition::Sni(values) => !values.is_empty(),
        Condition::SourceIp(nets) | Condition::RemoteIp(nets) | Condition::DestinationIp(nets) => {
            !nets.is_empty()
        }
        Condition::SourceServiceAccount(accounts) => !accounts.is_empty(),
        Condition::DestinationPort(ports) => !ports.is_empty(),
        Condition::Unknown(_) => true,
    }
}
