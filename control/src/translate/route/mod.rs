//! Routes of Gateway API with Services as parents: one resource a rule.
//!
//! A rule with something that cannot be honoured is sent as one that answers 500; one whose matches
//! cannot be understood is dropped, as Gateway API has it, and the status says so. Parents that are not
//! Services are somebody else's.

mod filter;
mod matches;
mod parent;

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::model::route::{Retry, RouteMatch, Timeouts};
use ambit_http::model::{Backend, Filter, Protocol, Resource, RouteKey, RouteRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::reference::{self, GATEWAY_GROUP, Referrer, Unresolved};
use super::values;
use super::view::{Outcome, View};
use crate::source::Kind;
use crate::source::gateway::route::{self, ParentRef};
use crate::source::gateway::{GRPCRoute, HTTPRoute, TCPRoute, TLSRoute};
use filter::Filters;
use parent::Attached;

/// The wait before a retry that does not say.
const BACKOFF: &str = "25ms";
/// Retries of a stanza that does not say.
const ATTEMPTS: i64 = 2;
/// The consumer's half of a route that is a producer's as well is numbered from here.
const CONSUMER_RULES: u16 = 1 << 15;

/// An `HTTPRoute`.
#[must_use]
pub fn http(namespace: &str, name: &str, object: &HTTPRoute, view: &View<'_>) -> Outcome {
    let whole = vec![route::HttpRule::default()];
    let rules = object.spec.rules.as_ref().unwrap_or(&whole);
    let mut reader = Reader::new(
        from(namespace, Kind::HTTPRoute, &object.spec.parent_refs),
        name,
        Protocol::Http,
        view,
    );
    for (at, rule) in rules.iter().enumerate() {
        let mut read = Read::new(at);
        read.matches(&rule.matches, matches::http);
        reader.filters(&mut read, &rule.filters);
        reader.backends(&mut read, &rule.backend_refs, true);
        read.timeouts(&rule.timeouts);
        if let Some(retry) = &rule.retry {
            read.retry(retry);
        }
        if rule.session_persistence.is_some() {
            reader.no_sessions(at);
        }
        reader.rules.push(read);
    }
    reader.hostnames(&object.spec.hostnames);
    reader.finish(&object.metadata, &object.spec.parent_refs, Vec::new())
}

/// A `GRPCRoute`.
#[must_use]
pub fn grpc(namespace: &str, name: &str, object: &GRPCRoute, view: &View<'_>) -> Outcome {
    let whole = vec![route::GrpcRule::default()];
    let rules = object.spec.rules.as_ref().unwrap_or(&whole);
    let mut reader = Reader::new(
        from(namespace, Kind::GRPCRoute, &object.spec.parent_refs),
        name,
        Protocol::Grpc,
        view,
    );
    for (at, rule) in rules.iter().enumerate() {
        let mut read = Read::new(at);
        read.matches(&rule.matches, matches::grpc);
        reader.filters(&mut read, &rule.filters);
        reader.backends(&mut read, &rule.backend_refs, true);
        if rule.session_persistence.is_some() {
            reader.no_sessions(at);
        }
        reader.rules.push(read);
    }
    reader.hostnames(&object.spec.hostnames);
    reader.finish(&object.metadata, &object.spec.parent_refs, Vec::new())
}

/// A `TLSRoute`.
#[must_use]
pub fn tls(namespace: &str, name: &str, object: &TLSRoute, view: &View<'_>) -> Outcome {
    let mut reader = Reader::new(
        from(namespace, Kind::TLSRoute, &object.spec.parent_refs),
        name,
        Protocol::Tls,
        view,
    );
    reader.streams(&object.spec.rules);
    let mut sni = Vec::new();
    for (at, hostname) in object.spec.hostnames.iter().enumerate() {
        match server_name(hostname) {
            Ok(name) => sni.push(name),
            Err(error) => reader.drop_all(format!("spec.hostnames[{at}]: {error}")),
        }
    }
    reader.finish(&object.metadata, &object.spec.parent_refs, sni)
}

/// A `TCPRoute`.
#[must_use]
pub fn tcp(namespace: &str, name: &str, object: &TCPRoute, view: &View<'_>) -> Outcome {
    let mut reader = Reader::new(
        from(namespace, Kind::TCPRoute, &object.spec.parent_refs),
        name,
        Protocol::Tcp,
        view,
    );
    reader.streams(&object.spec.rules);
    reader.finish(&object.metadata, &object.spec.parent_refs, Vec::new())
}

fn from<'a>(namespace: &'a str, kind: Kind, parents: &'a [route::ParentRef]) -> Referrer<'a> {
    Referrer {
        group: GATEWAY_GROUP,
        kind,
        namespace,
        parents,
    }
}

/// A name of SNI: lower case, possibly with a leading `*.`.
fn server_name(hostname: &str) -> Result<Arc<str>, String> {
    let name = hostname.to_ascii_lowercase();
    let labels = name.strip_prefix("*.").unwrap_or(&name);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if labels.is_empty() || !labels.bytes().all(allowed) {
        return Err(format!("{hostname:?} is not a host name"));
    }
    Ok(name.into())
}

/// Reads the rules of one route object.
struct Reader<'a, 'b> {
    from: Referrer<'a>,
    name: &'a str,
    protocol: Protocol,
    view: &'a View<'b>,
    rules: Vec<Read>,
    authorizers: Vec<Resource>,
    unresolved: Vec<Unresolved>,
    outcome: Outcome,
}

/// One rule as far as it could be read.
struct Read {
    at: usize,
    matches: Vec<RouteMatch>,
    filters: Vec<Filter>,
    backends: Vec<Backend>,
    timeouts: Timeouts,
    retry: Option<Retry>,
    /// What cannot be honoured: the rule answers 500.
    invalid: Vec<String>,
    /// Why the rule is not there at all.
    dropped: Option<String>,
}

impl Read {
    fn new(at: usize) -> Self {
        Self {
            at,
            matches: Vec::new(),
            filters: Vec::new(),
            backends: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
            invalid: Vec::new(),
            dropped: None,
        }
    }

    fn matches<M>(&mut self, all: &[M], read: impl Fn(&M) -> Result<RouteMatch, String>) {
        let mut wrong = Vec::new();
        for (at, one) in all.iter().enumerate() {
            match read(one) {
                Ok(found) => self.matches.push(found),
                Err(error) => wrong.push(format!("matches[{at}].{error}")),
            }
        }
        if !wrong.is_empty() {
            self.dropped = Some(wrong.join("; "));
        }
    }

    fn duration(&mut self, field: &str, text: &str) -> Option<std::time::Duration> {
        values::duration(text)
            .map_err(|error| self.invalid.push(format!("{field}: {error}")))
            .ok()
    }

    /// `0s` is no limit.
    fn timeouts(&mut self, timeouts: &route::Timeouts) {
        let mut read = |field: &str, text: Option<&str>| {
            self.duration(field, text?).filter(|found| !found.is_zero())
        };
        let request = read("timeouts.request", timeouts.request.as_deref());
        let backend_request = read(
            "timeouts.backendRequest",
            timeouts.backend_request.as_deref(),
        );
        self.timeouts = Timeouts {
            request,
            backend_request,
        };
    }

    fn retry(&mut self, retry: &route::Retry) {
        let attempts = u32::try_from(retry.attempts.unwrap_or(ATTEMPTS))
            .ok()
            .filter(|attempts| *attempts <= 100);
        let codes: Option<Vec<u16>> = retry
            .codes
            .iter()
            .map(|code| {
                u16::try_from(*code)
                    .ok()
                    .filter(|code| (400..600).contains(code))
            })
            .collect();
        let backoff = retry.backoff.as_deref().unwrap_or(BACKOFF);
        let backoff = self.duration("retry.backoff", backoff);
        if attempts.is_none() {
            self.invalid
                .push("retry.attempts is not 0 to 100".to_owned());
        }
        if codes.is_none() {
            self.invalid
                .push("retry.codes are not all 400 to 599".to_owned());
        }
        if let (Some(attempts), Some(codes), Some(backoff)) = (attempts, codes, backoff) {
            self.retry = Some(Retry {
                attempts,
                codes,
                backoff,
            });
        }
    }
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(from: Referrer<'a>, name: &'a str, protocol: Protocol, view: &'a View<'b>) -> Self {
        Self {
            from,
            name,
            protocol,
            view,
            rules: Vec::new(),
            authorizers: Vec::new(),
            unresolved: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    fn streams(&mut self, rules: &[route::StreamRule]) {
        for (at, rule) in rules.iter().enumerate() {
            let mut read = Read::new(at);
            self.backends(&mut read, &rule.backend_refs, false);
            self.rules.push(read);
        }
    }

    fn filters(&mut self, read: &mut Read, filters: &[route::Filter]) {
        let place = format!("{}:{}:{}", self.protocol.as_str(), self.name, read.at);
        let mut reader = Filters::new(self.view, self.from, Some(place));
        read.filters = reader.read("filters", filters);
        self.take(reader, read);
    }

    fn take(&mut self, reader: Filters<'_, '_>, read: &mut Read) {
        read.invalid.extend(reader.invalid);
        self.unresolved.extend(reader.unresolved);
        self.authorizers.extend(reader.authorizers);
    }

    fn backends(&mut self, read: &mut Read, references: &[route::BackendRef], filters: bool) {
        for (at, reference) in references.iter().enumerate() {
            let weight = u32::try_from(reference.weight.unwrap_or(1)).ok();
            let Some(weight) = weight.filter(|weight| *weight <= 1_000_000) else {
                let wrong = format!("backendRefs[{at}].weight is not 0 to 1000000");
                read.invalid.push(wrong);
                continue;
            };
            let (backend, unresolved) = reference::backend(self.view, self.from, reference);
            self.unresolved.extend(unresolved);
            let mut reader = Filters::new(self.view, self.from, None);
            let found = reader.read(&format!("backendRefs[{at}].filters"), &reference.filters);
            if !filters && !found.is_empty() {
                let wrong = format!("backendRefs[{at}].filters: there is nothing to filter");
                read.invalid.push(wrong);
            }
            self.take(reader, read);
            read.backends.push(Backend {
                weight,
                backend,
                filters: found,
            });
        }
    }

    fn no_sessions(&mut self, at: usize) {
        let notice = format!("spec.rules[{at}].sessionPersistence has no effect");
        self.outcome.notices.push(notice);
    }

    fn hostnames(&mut self, hostnames: &[String]) {
        if !hostnames.is_empty() {
            let notice =
                "spec.hostnames has no effect: with a Service as parent the address decides";
            self.outcome.notices.push(notice.to_owned());
        }
    }

    fn drop_all(&mut self, why: String) {
        for rule in &mut self.rules {
            rule.dropped = Some(why.clone());
        }
    }

    fn finish(
        mut self,
        metadata: &ObjectMeta,
        parents: &[ParentRef],
        sni: Vec<Arc<str>>,
    ) -> Outcome {
        let attached = parent::attach(self.view, self.from.namespace, self.from.kind, parents);
        let (producer, consumer) = attached.parents(self.from.namespace);
        let halves = [(&producer, None), (&consumer, Some(self.from.namespace))];
        for (parents, namespace) in halves {
            if parents.is_empty() {
                continue;
            }
            let both = namespace.is_some() && !producer.is_empty();
            for rule in self.rules.iter().filter(|rule| rule.dropped.is_none()) {
                let at = u16::try_from(rule.at).unwrap_or(u16::MAX);
                let resource = RouteRule {
                    key: RouteKey {
                        protocol: self.protocol,
                        route: NamespacedName::new(self.from.namespace, self.name),
                        rule: if both { at | CONSUMER_RULES } else { at },
                    },
                    parents: parents.clone(),
                    created: created(metadata),
                    consumer: namespace.map(Arc::from),
                    sni: sni.clone(),
                    matches: rule.matches.clone(),
                    filters: rule.filters.clone(),
                    backends: rule.backends.clone(),
                    timeouts: rule.timeouts,
                    retry: rule.retry.clone(),
                    invalid: (!rule.invalid.is_empty()).then(|| {
                        let why = rule.invalid.join("; ");
                        format!("spec.rules[{}]: {why}", rule.at).into()
                    }),
                };
                self.outcome
                    .resources
                    .push(Resource::Route(Arc::new(resource)));
            }
        }
        if !attached.is_empty() {
            self.outcome.resources.append(&mut self.authorizers);
            self.status(metadata, &attached);
        }
        self.outcome
    }

    fn status(&mut self, metadata: &ObjectMeta, attached: &Attached) {
        let mut wrong = Vec::new();
        for rule in &self.rules {
            let at = format!("spec.rules[{}]", rule.at);
            if let Some(why) = &rule.dropped {
                wrong.push(format!("Dropped Rule {at}: {why}"));
            } else if !rule.invalid.is_empty() {
                let why = rule.invalid.join("; ");
                wrong.push(format!("{at} is answered with 500: {why}"));
            }
        }
        let all = wrong.len() == self.rules.len();
        self.outcome.problems.extend(wrong.iter().cloned());
        for unresolved in &self.unresolved {
            self.outcome.problems.push(unresolved.message.clone());
        }
        self.outcome.problems.dedup();
        let refused = attached.refusals();
        self.outcome.problems.extend(refused.map(str::to_owned));
        let rules = (!wrong.is_empty()).then(|| (all, wrong.join("; ")));
        let parents = attached.statuses(metadata, rules.as_ref(), self.unresolved.first());
        if !parents.is_empty() {
            self.outcome.status = Some(json!({ "parents": parents }));
        }
    }
}

/// Seconds since 1970; 0 is unknown.
pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    let at = metadata.creation_timestamp.as_ref();
    at.map_or(0, |time| time.0.as_second())
}

#[cfg(test)]
#[path = "../route_tests.rs"]
mod tests;
