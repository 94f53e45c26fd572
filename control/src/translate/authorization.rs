//! AuthorizationPolicy as node proxies enforce it: on connections.
//!
//! What a connection cannot tell - an HTTP method, a value that makes no sense - is judged so that
//! access never widens: in a DENY the field counts as matched, in an ALLOW the whole rule is gone.
//!
//! A policy of a Service is for its waypoint. While the Service is bound to none, node proxies stand in for it.

use ambit_core::addr::NamespacedName;
use ambit_core::model::{self, Action, Clause, Match, PortMapping, Scope};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::labels::{DRY_RUN, annotation, selects};
use super::status::{fails, holds};
use super::{Mesh, PolicyOutcome, strangers, target, values, waypoint};
use crate::index::objects::Objects;
use crate::source::istio::{AuthorizationPolicy, Condition, Operation, Rule, Selector, Source};

/// How a policy comes to those who judge requests.
const REMEDY: &str = "to have it enforced as it is written, name a Service or Gateway in spec.targetRefs: its waypoint judges requests";

/// The resource of a policy, and what its author should know.
#[must_use]
pub fn translate(
    namespace: &str,
    name: &str,
    policy: &AuthorizationPolicy,
    objects: &Objects,
    mesh: &Mesh,
) -> PolicyOutcome {
    let spec = &policy.spec;
    let mut outcome = PolicyOutcome::default();
    let targeted = is_targeted(policy);
    // Those are for waypoints, see `policy`.
    if targeted && !stand_in(namespace, policy, objects, mesh) {
        return outcome;
    }
    let action = match spec.action.as_deref() {
        None | Some("" | "ALLOW") => Some(Action::Allow),
        Some("DENY") => Some(Action::Deny),
        // Nobody is there to ask.
        Some("CUSTOM") if targeted => None,
        Some("AUDIT" | "CUSTOM") => {
            let action = spec.action.as_deref().unwrap_or_default();
            let notice = format!("action {action} has no effect on node proxies");
            outcome.notices.push(notice);
            outcome.status = Some(accepted(policy, None, &outcome));
            return outcome;
        }
        Some(other) => {
            outcome.problems.push(format!(
                "spec.action: {other:?} is not ALLOW, DENY, CUSTOM or AUDIT; everything is denied"
            ));
            None
        }
    };
    let mut reader = Reader {
        namespace,
        deny: action != Some(Action::Allow),
        outcome: &mut outcome,
    };
    let rules = match action {
        Some(_) => spec
            .rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| reader.rule(index, rule))
            .collect(),
        None => vec![model::Rule::default()],
    };
    let mut resource = model::AuthorizationPolicy {
        key: NamespacedName::new(namespace, name),
        scope: match targeted {
            true => Scope::WorkloadSelector,
            false => scope(namespace, spec.selector.as_ref(), mesh),
        },
        action: action.unwrap_or(Action::Deny),
        rules,
        dry_run: annotation(&policy.metadata, DRY_RUN) == Some("true"),
    };
    resource.spell_out(&mesh.trust_domains);
    if !targeted {
        if outcome.problems.is_empty() && !outcome.notices.is_empty() {
            let effect = match resource.action {
                Action::Deny => "node proxies deny more than is written",
                Action::Allow => "node proxies allow less than is written",
            };
            outcome
                .notices
                .push(format!("{effect}; {}", remedy(policy)));
        }
        outcome.status = Some(accepted(policy, Some(resource.action), &outcome));
    }
    outcome.policy = Some(resource);
    outcome
        .notices
        .extend(strangers::notices(&spec.rules, mesh));
    if targeted {
        // The translation for waypoints says what there is to say, see `policy`.
        (outcome.problems, outcome.notices) = Default::default();
    }
    outcome
}

/// What to do about a policy of which node proxies enforce less, or more, than is written.
fn remedy(policy: &AuthorizationPolicy) -> String {
    match has_labels(policy.spec.selector.as_ref()) {
        // A policy that has both denies everything.
        true => format!("{REMEDY} (and take spec.selector away)"),
        false => REMEDY.to_owned(),
    }
}

/// `status` of a policy without targets: whether node proxies take it, under the words of Istio. `None` is an action
/// that they have no part in.
fn accepted(
    policy: &AuthorizationPolicy,
    action: Option<Action>,
    outcome: &PolicyOutcome,
) -> Value {
    let of = &policy.metadata;
    let condition = "ZtunnelAccepted";
    let unsupported = "UnsupportedValue";
    if let Some(why) = &policy.unreadable {
        return json!({ "conditions": [target::unreadable(of, condition, why)] });
    }
    let said = outcome.notices.join("; ");
    let condition = match action {
        None => {
            let remedy = remedy(policy);
            fails(of, condition, unsupported, &format!("{said}; {remedy}"))
        }
        Some(_) if !outcome.problems.is_empty() => {
            fails(of, condition, "Invalid", &outcome.problems.join("; "))
        }
        Some(_) if outcome.notices.is_empty() => {
            holds(of, condition, "Accepted", "node proxies enforce the policy")
        }
        Some(_) => holds(of, condition, unsupported, &said),
    };
    json!({ "conditions": [condition] })
}

/// Policies that node proxies enforce for a workload of `namespace` with this metadata that serves `services`: those with
/// a selector that selects it, and those of its services that no waypoint serves.
#[must_use]
pub fn selecting(
    namespace: &str,
    metadata: &ObjectMeta,
    services: &[(NamespacedName, Vec<PortMapping>)],
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<NamespacedName> {
    let mut namespaces = vec![&*mesh.root_namespace];
    if namespace != &*mesh.root_namespace {
        namespaces.push(namespace);
    }
    let selecting = namespaces.into_iter().flat_map(|of| {
        let of_namespace = objects.policies.within(of);
        of_namespace
            .filter(|(_, policy)| for_node_proxies(policy))
            .filter(|(_, policy)| {
                let selector = policy.spec.selector.as_ref();
                has_labels(selector) && selector.is_some_and(|s| selects(&s.match_labels, metadata))
            })
            .map(move |(name, _)| NamespacedName::new(of, name.clone()))
    });
    let of_services = objects.policies.within(namespace).filter(|(_, policy)| {
        let mut unserved = unserved(namespace, policy, objects, mesh);
        let serves = |service| services.iter().any(|(key, _)| *key == service);
        policy.spec.action.as_deref() != Some("AUDIT") && unserved.any(serves)
    });
    let of_services = of_services.map(|(name, _)| NamespacedName::new(namespace, name.clone()));
    selecting.chain(of_services).collect()
}

/// The Services a policy is attached to that are bound to no waypoint. One that is bound to a waypoint that is not
/// there is not reached at all.
fn unserved<'a>(
    namespace: &'a str,
    policy: &'a AuthorizationPolicy,
    objects: &'a Objects,
    mesh: &'a Mesh,
) -> impl Iterator<Item = NamespacedName> + 'a {
    target::services(&policy.spec).filter_map(move |name| {
        let service = objects.services.find(namespace, name)?;
        let waypoint = waypoint::of_service(namespace, &service.metadata, objects, mesh);
        waypoint
            .is_none()
            .then(|| mesh.service_key(namespace, name))
    })
}

/// Whether a selector is there and says something.
#[must_use]
pub fn has_labels(selector: Option<&Selector>) -> bool {
    selector.is_some_and(|selector| !selector.match_labels.is_empty())
}

/// Whether a policy is for node proxies alone, and something to them.
pub(super) fn for_node_proxies(policy: &AuthorizationPolicy) -> bool {
    !is_targeted(policy) && !matches!(policy.spec.action.as_deref(), Some("CUSTOM" | "AUDIT"))
}

/// Whether node proxies enforce it for a Service that no waypoint serves.
pub(super) fn stand_in(
    namespace: &str,
    policy: &AuthorizationPolicy,
    objects: &Objects,
    mesh: &Mesh,
) -> bool {
    let mut unserved = unserved(namespace, policy, objects, mesh);
    policy.spec.action.as_deref() != Some("AUDIT") && unserved.next().is_some()
}

/// Attached to a Gateway, a Service and the like: for waypoints.
fn is_targeted(policy: &AuthorizationPolicy) -> bool {
    policy.spec.target_ref.is_some() || !policy.spec.target_refs.is_empty()
}

fn scope(namespace: &str, selector: Option<&Selector>, mesh: &Mesh) -> Scope {
    if has_labels(selector) {
        Scope::WorkloadSelector
    } else if namespace == &*mesh.root_namespace {
        Scope::Global
    } else {
        Scope::Namespace
    }
}

/// Reads the rules of one policy.
struct Reader<'a> {
    namespace: &'a str,
    deny: bool,
    outcome: &'a mut PolicyOutcome,
}

/// What is known of a field, a source, an operation.
enum Judged<T> {
    /// All of it can be judged.
    Whole(T),
    /// Some of it cannot; this is the part that can.
    Partly(T),
}

impl Reader<'_> {
    /// `None`: the rule never matches here.
    fn rule(&mut self, index: usize, rule: &Rule) -> Option<model::Rule> {
        let mut clauses = Vec::new();
        let mut lost = false;
        let mut add = |read: Vec<Judged<Match>>| {
            if read.is_empty() {
                return;
            }
            lost |= read
                .iter()
                .any(|judged| matches!(judged, Judged::Partly(_)));
            let matches: Vec<Match> = read
                .into_iter()
                .map(|(Judged::Whole(found) | Judged::Partly(found))| found)
                .collect();
            // One alternative that always holds makes the clause hold.
            if !matches.iter().any(|found| *found == Match::default()) {
                clauses.push(Clause { matches });
            }
        };
        let at = format!("spec.rules[{index}]");
        add(rule
            .from
            .iter()
            .enumerate()
            .map(|(i, from)| self.source(&format!("{at}.from[{i}].source"), &from.source))
            .collect());
        add(rule
            .to
            .iter()
            .enumerate()
            .map(|(i, to)| self.operation(&format!("{at}.to[{i}].operation"), &to.operation))
            .collect());
        for (i, condition) in rule.when.iter().enumerate() {
            add(vec![self.condition(&format!("{at}.when[{i}]"), condition)]);
        }
        if lost {
            let effect = match (self.deny, clauses.is_empty()) {
                (false, _) => "and allows nothing there",
                (true, true) => "and denies every connection",
                (true, false) => "and denies whatever the rest of it matches",
            };
            let notice = format!("{at} cannot be judged on a connection {effect}");
            self.outcome.notices.push(notice);
        }
        if lost && !self.deny {
            return None;
        }
        Some(model::Rule { clauses })
    }

    fn source(&mut self, at: &str, source: &Source) -> Judged<Match> {
        let mut field = Fields::new(self, at);
        let namespace = field.reader.namespace;
        let account = |value: &str| values::service_account(value, namespace);
        let mut found = Match {
            principals: field.read("principals", &source.principals, values::principal),
            not_principals: field.read("notPrincipals", &source.not_principals, values::principal),
            namespaces: field.read("namespaces", &source.namespaces, values::text),
            not_namespaces: field.read("notNamespaces", &source.not_namespaces, values::text),
            source_ips: field.read("ipBlocks", &source.ip_blocks, values::network),
            not_source_ips: field.read("notIpBlocks", &source.not_ip_blocks, values::network),
            ..Match::default()
        };
        found.service_accounts = field.read("serviceAccounts", &source.service_accounts, account);
        found.not_service_accounts =
            field.read("notServiceAccounts", &source.not_service_accounts, account);
        field.http_only("requestPrincipals", &source.request_principals);
        field.http_only("notRequestPrincipals", &source.not_request_principals);
        field.http_only("remoteIpBlocks", &source.remote_ip_blocks);
        field.http_only("notRemoteIpBlocks", &source.not_remote_ip_blocks);
        field.finish(found)
    }

    fn operation(&mut self, at: &str, operation: &Operation) -> Judged<Match> {
        let mut field = Fields::new(self, at);
        let found = Match {
            destination_ports: field.read("ports", &operation.ports, values::port),
            not_destination_ports: field.read("notPorts", &operation.not_ports, values::port),
            ..Match::default()
        };
        for (name, values) in [
            ("hosts", &operation.hosts),
            ("notHosts", &operation.not_hosts),
            ("methods", &operation.methods),
            ("notMethods", &operation.not_methods),
            ("paths", &operation.paths),
            ("notPaths", &operation.not_paths),
        ] {
            field.http_only(name, values);
        }
        field.finish(found)
    }

    fn condition(&mut self, at: &str, condition: &Condition) -> Judged<Match> {
        let mut field = Fields::new(self, at);
        let (values, not) = (&condition.values, &condition.not_values);
        let mut found = Match::default();
        let key = condition.key.as_str();
        match key {
            "source.ip" => {
                found.source_ips = field.read("values", values, values::network);
                found.not_source_ips = field.read("notValues", not, values::network);
            }
            "source.namespace" => {
                found.namespaces = field.read("values", values, values::text);
                found.not_namespaces = field.read("notValues", not, values::text);
            }
            "source.principal" => {
                found.principals = field.read("values", values, values::principal);
                found.not_principals = field.read("notValues", not, values::principal);
            }
            "source.serviceAccount" => {
                let namespace = field.reader.namespace;
                let account = |value: &str| values::service_account(value, namespace);
                found.service_accounts = field.read("values", values, account);
                found.not_service_accounts = field.read("notValues", not, account);
            }
            "destination.ip" => {
                found.destination_ips = field.read("values", values, values::network);
                found.not_destination_ips = field.read("notValues", not, values::network);
            }
            "destination.port" => {
                found.destination_ports = field.read("values", values, values::port);
                found.not_destination_ports = field.read("notValues", not, values::port);
            }
            _ if is_http_attribute(key) => {
                field.notice(&format!(".key {key:?}"));
                field.present = true;
            }
            _ => {
                field.problem(&format!(".key: {}", values::unknown_key(key)));
                field.present = true;
            }
        }
        field.finish(found)
    }
}

fn is_http_attribute(key: &str) -> bool {
    key.starts_with("request.")
        || key.starts_with("experimental.envoy.filters.")
        || matches!(key, "remote.ip" | "connection.sni")
}

/// Reads the fields of one source, operation or condition.
struct Fields<'a, 'b> {
    reader: &'a mut Reader<'b>,
    at: &'a str,
    lost: bool,
    present: bool,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn new(reader: &'a mut Reader<'b>, at: &'a str) -> Self {
        Self {
            reader,
            at,
            lost: false,
            present: false,
        }
    }

    /// The values of a field; none when one of them is wrong, and then the field is lost.
    fn read<T>(
        &mut self,
        name: &str,
        values: &[String],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.present |= !values.is_empty();
        match values.iter().map(|value| parse(value)).collect() {
            Ok(values) => values,
            Err(error) => {
                self.problem(&format!(".{name}: {error}"));
                Vec::new()
            }
        }
    }

    /// A field that only an HTTP request has.
    fn http_only(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.present = true;
            self.notice(&format!(".{name}"));
        }
    }

    fn notice(&mut self, what: &str) {
        self.lost = true;
        let notice = format!("{}{what}: only a waypoint can judge this", self.at);
        self.reader.outcome.notices.push(notice);
    }

    fn problem(&mut self, what: &str) {
        self.lost = true;
        let effect = if self.reader.deny {
            "it counts as matched"
        } else {
            "the rule allows nothing"
        };
        let problem = format!("{}{what}; {effect}", self.at);
        self.reader.outcome.problems.push(problem);
    }

    fn finish(mut self, found: Match) -> Judged<Match> {
        if !self.present {
            self.problem(" says nothing");
        }
        if self.lost {
            Judged::Partly(found)
        } else {
            Judged::Whole(found)
        }
    }
}

#[cfg(test)]
#[path = "authorization_tests.rs"]
mod tests;
