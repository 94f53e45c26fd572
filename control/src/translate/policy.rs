//! AuthorizationPolicy as waypoints enforce it: on requests.
//!
//! A value that makes no sense is judged so that access never widens: in an ALLOW the whole rule is
//! gone, elsewhere the field counts as matched.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::model::policy::{PathPattern, Values};
use ambit_http::model::{Action, Condition, Operation, Policy, Resource, Rule, Source, TextMatch};
use ambit_http::path::escaped;
use ipnet::IpNet;
use serde_json::json;

use super::labels::{DRY_RUN, annotation};
use super::view::{Outcome, View};
use super::{authorization, strangers, target, values};
use crate::source::ambit::ExternalAuthorizer;
use crate::source::istio::{self, AuthorizationPolicy};

/// How a policy of a Service is enforced while no waypoint serves that, see `authorization`.
const MEANWHILE: &str =
    "meanwhile node proxies enforce it for whole pods, and deny what they cannot judge";

/// The resource of a policy with targets; those without are for node proxies, and their status tells what those make of
/// it.
#[must_use]
pub fn translate(
    namespace: &str,
    name: &str,
    policy: &AuthorizationPolicy,
    view: &View<'_>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let spec = &policy.spec;
    let references: Vec<_> = spec.target_ref.iter().chain(&spec.target_refs).collect();
    if references.is_empty() {
        let there = authorization::translate(namespace, name, policy, view.objects, view.mesh);
        outcome.status = there.status;
        return outcome;
    }
    let dry_run = annotation(&policy.metadata, DRY_RUN) == Some("true");
    let mut targets = target::targets(namespace, references, view);
    let stand_in = authorization::stand_in(namespace, policy, view.objects, view.mesh);
    targets.served.meanwhile = (stand_in && !dry_run).then_some(MEANWHILE);
    outcome.problems = targets.problems;
    let mut undecodable = None;
    if authorization::has_labels(spec.selector.as_ref()) {
        undecodable =
            Some("spec.selector and spec.targetRefs exclude each other; remove one".to_owned());
    }
    let action = match spec.action.as_deref() {
        None | Some("" | "ALLOW") => Action::Allow,
        Some("DENY") => Action::Deny,
        Some("AUDIT") => Action::Audit,
        Some("CUSTOM") => custom(spec, view, &mut outcome.problems),
        Some(other) => {
            let why = format!("spec.action: {other:?} is not ALLOW, DENY, CUSTOM or AUDIT");
            undecodable = Some(why);
            Action::Deny
        }
    };
    if let Some(why) = &undecodable {
        outcome
            .problems
            .push(format!("{why}; everything is denied"));
    }
    let mut reader = Reader {
        namespace,
        allow: action == Action::Allow,
        problems: &mut outcome.problems,
    };
    let rules = spec.rules.iter().enumerate();
    let rules = rules
        .filter_map(|(at, rule)| reader.rule(at, rule))
        .collect();
    if !targets.found.is_empty() {
        let mut resource = Policy {
            key: NamespacedName::new(namespace, name),
            targets: targets.found,
            action,
            rules,
            dry_run,
            undecodable: undecodable.map(Into::into),
        };
        resource.spell_out(&view.mesh.trust_domains);
        outcome.resources.push(Resource::Policy(Arc::new(resource)));
    }
    outcome.notices = targets.served.notices();
    outcome
        .notices
        .extend(strangers::notices(&spec.rules, view.mesh));
    outcome.status = Some(match &policy.unreadable {
        Some(why) => {
            let condition = target::unreadable(&policy.metadata, target::ACCEPTED, why);
            json!({ "conditions": [condition] })
        }
        None => target::accepted(&policy.metadata, &outcome.problems, &targets.served),
    });
    outcome
}

/// A provider that is not there denies.
fn custom(
    spec: &istio::AuthorizationPolicySpec,
    view: &View<'_>,
    problems: &mut Vec<String>,
) -> Action {
    let root = &view.mesh.root_namespace;
    let provider = spec
        .provider
        .as_ref()
        .map(|p| p.name.as_str())
        .unwrap_or_default();
    if provider.is_empty() {
        problems.push("spec.provider.name is missing; what matches is denied".to_owned());
    } else if view.find::<ExternalAuthorizer>(root, provider).is_none() {
        problems.push(format!(
            "spec.provider.name: ExternalAuthorizer {root}/{provider} does not exist; what matches is denied"
        ));
    }
    // No object has this name.
    let provider = if provider.is_empty() { "-" } else { provider };
    Action::Custom(NamespacedName::new(root.clone(), provider))
}

struct Reader<'a> {
    namespace: &'a str,
    allow: bool,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// `None`: the rule never matches.
    fn rule(&mut self, at: usize, rule: &istio::Rule) -> Option<Rule> {
        let at = format!("spec.rules[{at}]");
        let before = self.problems.len();
        let from = rule.from.iter().enumerate();
        let to = rule.to.iter().enumerate();
        let when = rule.when.iter().enumerate();
        let found = Rule {
            from: from
                .map(|(i, from)| self.source(format!("{at}.from[{i}].source"), &from.source))
                .collect(),
            to: to
                .map(|(i, to)| self.operation(format!("{at}.to[{i}].operation"), &to.operation))
                .collect(),
            when: when
                .map(|(i, condition)| self.condition(format!("{at}.when[{i}]"), condition))
                .collect(),
        };
        let lost = self.problems.len() > before;
        (!lost || !self.allow).then_some(found)
    }

    fn source(&mut self, at: String, source: &istio::Source) -> Source {
        let namespace = self.namespace;
        let account = |value: &str| values::service_account(value, namespace);
        let mut field = Fields::new(self, at);
        let found = Source {
            principals: field.read(
                "principals",
                &source.principals,
                &source.not_principals,
                principal,
            ),
            request_principals: field.read(
                "requestPrincipals",
                &source.request_principals,
                &source.not_request_principals,
                text,
            ),
            namespaces: field.read(
                "namespaces",
                &source.namespaces,
                &source.not_namespaces,
                text,
            ),
            service_accounts: field.read(
                "serviceAccounts",
                &source.service_accounts,
                &source.not_service_accounts,
                account,
            ),
            ip_blocks: field.read(
                "ipBlocks",
                &source.ip_blocks,
                &source.not_ip_blocks,
                values::network,
            ),
            remote_ip_blocks: field.read(
                "remoteIpBlocks",
                &source.remote_ip_blocks,
                &source.not_remote_ip_blocks,
                values::network,
            ),
        };
        field.finish();
        found
    }

    fn operation(&mut self, at: String, operation: &istio::Operation) -> Operation {
        let mut field = Fields::new(self, at);
        let found = Operation {
            hosts: field.read("hosts", &operation.hosts, &operation.not_hosts, host),
            ports: field.read(
                "ports",
                &operation.ports,
                &operation.not_ports,
                values::port,
            ),
            methods: field.read("methods", &operation.methods, &operation.not_methods, text),
            paths: field.read("paths", &operation.paths, &operation.not_paths, path),
        };
        field.finish();
        found
    }

    fn condition(&mut self, at: String, condition: &istio::Condition) -> Condition {
        let namespace = self.namespace;
        let account = |value: &str| values::service_account(value, namespace);
        let key = condition.key.as_str();
        let mut field = Fields::new(self, at);
        let (any, none) = (&condition.values, &condition.not_values);
        let found = match key {
            "source.ip" => Condition::SourceIp(field.nets(any, none)),
            "remote.ip" => Condition::RemoteIp(field.nets(any, none)),
            "source.namespace" => Condition::SourceNamespace(field.texts(any, none)),
            "source.principal" => {
                Condition::SourcePrincipal(field.read("values", any, none, principal))
            }
            "source.serviceAccount" => {
                Condition::SourceServiceAccount(field.read("values", any, none, account))
            }
            "request.auth.principal" => Condition::RequestPrincipal(field.texts(any, none)),
            "request.auth.audiences" => Condition::Audiences(field.texts(any, none)),
            "request.auth.presenter" => Condition::Presenter(field.texts(any, none)),
            "destination.ip" => Condition::DestinationIp(field.nets(any, none)),
            "destination.port" => {
                Condition::DestinationPort(field.read("values", any, none, values::port))
            }
            "connection.sni" => Condition::Sni(field.texts(any, none)),
            _ => match attribute(key) {
                Some(Attribute::Header(name)) => Condition::Header(name, field.texts(any, none)),
                Some(Attribute::Claim(path)) => Condition::Claim(path, field.texts(any, none)),
                None => {
                    field.present = true;
                    field.problem(&format!(".key: {}", values::unknown_key(key)));
                    Condition::Unknown(key.into())
                }
            },
        };
        field.finish();
        found
    }
}

enum Attribute {
    Header(http::HeaderName),
    Claim(Vec<Arc<str>>),
}

/// `request.headers[NAME]` or `request.auth.claims[A][B]`.
fn attribute(key: &str) -> Option<Attribute> {
    let parts = |rest: &str| -> Option<Vec<Arc<str>>> {
        let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
        let parts: Vec<Arc<str>> = inner.split("][").map(Arc::from).collect();
        let good = |part: &Arc<str>| !part.is_empty() && !part.contains(['[', ']']);
        parts.iter().all(good).then_some(parts)
    };
    if let Some(rest) = key.strip_prefix("request.headers") {
        let parts = parts(rest)?;
        let [name] = parts.as_slice() else {
            return None;
        };
        return values::header(name).ok().map(Attribute::Header);
    }
    let rest = key.strip_prefix("request.auth.claims")?;
    parts(rest).map(Attribute::Claim)
}

/// Reads the fields of one source, operation or condition.
struct Fields<'a, 'b> {
    reader: &'a mut Reader<'b>,
    at: String,
    present: bool,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn new(reader: &'a mut Reader<'b>, at: String) -> Self {
        Self {
            reader,
            at,
            present: false,
        }
    }

    /// Nothing to look at when a value is wrong: the field counts as matched.
    fn read<T>(
        &mut self,
        name: &str,
        any: &[String],
        none: &[String],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Values<T> {
        self.present |= !any.is_empty() || !none.is_empty();
        let list = |values: &[String]| -> Result<Vec<T>, String> {
            values.iter().map(|value| parse(value)).collect()
        };
        match (list(any), list(none)) {
            (Ok(any), Ok(none)) => Values { any, none },
            (any, none) => {
                for (name, error) in [(name.to_owned(), any.err()), (negated(name), none.err())] {
                    if let Some(error) = error {
                        self.problem(&format!(".{name}: {error}"));
                    }
                }
                Values::default()
            }
        }
    }

    fn texts(&mut self, any: &[String], none: &[String]) -> Values<TextMatch> {
        self.read("values", any, none, text)
    }

    fn nets(&mut self, any: &[String], none: &[String]) -> Values<IpNet> {
        self.read("values", any, none, values::network)
    }

    fn problem(&mut self, what: &str) {
        let effect = if self.reader.allow {
            "the rule allows nothing"
        } else {
            "it counts as matched"
        };
        self.reader
            .problems
            .push(format!("{}{what}; {effect}", self.at));
    }

    fn finish(mut self) {
        if !self.present {
            self.problem(" says nothing");
        }
    }
}

/// The field that names what is excepted.
fn negated(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("not{}{rest}", first.to_ascii_uppercase())
}

fn text(value: &str) -> Result<TextMatch, String> {
    values::text(value).map(Into::into)
}

fn principal(value: &str) -> Result<TextMatch, String> {
    values::principal(value).map(Into::into)
}

/// Compared in lower case, without port and trailing dot.
fn host(value: &str) -> Result<TextMatch, String> {
    if value.contains(':') {
        let host = value.split(':').next().unwrap_or_default();
        return Err(format!(
            "{value:?} has a port, which is not compared; write {host:?}"
        ));
    }
    text(&value.trim_end_matches('.').to_ascii_lowercase())
}

/// A text, or a template with `{*}` and `{**}`.
fn path(value: &str) -> Result<PathPattern, String> {
    if !value.contains("{*") {
        return text(&escaped(value)).map(PathPattern::Text);
    }
    let segments: Vec<&str> = value.split('/').collect();
    let last = segments.len() - 1;
    let good = value.starts_with('/')
        && segments
            .iter()
            .enumerate()
            .all(|(at, segment)| match *segment {
                "{**}" => at == last,
                "{*}" => true,
                other => !other.contains(['{', '}', '*']),
            });
    if good {
        Ok(PathPattern::Template(value.into()))
    } else {
        Err(format!(
            "{value:?}: {{*}} and {{**}} are whole segments, and {{**}} is the last one"
        ))
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
