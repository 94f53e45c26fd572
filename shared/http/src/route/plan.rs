//! What a rule means for a request: filters, the backend that is drawn, the answer of a redirect.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::balance::Picker;
use http::StatusCode;

use super::RequestHead;
use super::action;
use super::table::Matched;
use crate::model::RouteRule;
use crate::model::route::{
    BackendRef, Cors, Fault, Filter, HeaderEdits, Mirror, RateLimit, Retry, Timeouts,
};
use crate::path::CanonicalPath;
use crate::refusal::{Flag, Refusal};

/// What to do with a request.
#[derive(Debug, Clone)]
pub struct RequestPlan {
    /// The rule; `None` when the service has no route.
    pub rule: Option<Arc<RouteRule>>,
    /// Rate limits, in order; looked at before anything else is done.
    pub limits: Vec<RateLimit>,
    /// External authorizers, in order.
    pub authorizers: Vec<NamespacedName>,
    /// A fault to inject.
    pub fault: Option<Fault>,
    /// What browsers of other origins may do.
    pub cors: Option<Cors>,
    /// A redirect, or where to.
    pub action: Result<Forward, action::Redirected>,
    /// Edits of the response, in the order in which they apply.
    pub response_edits: Vec<HeaderEdits>,
}

/// Where a request goes, and how.
#[derive(Debug, Clone)]
pub struct Forward {
    /// A service; never [`BackendRef::Invalid`].
    pub service: NamespacedName,
    /// Its port.
    pub port: u16,
    /// Path and query to send, when rewritten.
    pub path: Option<CanonicalPath>,
    /// `Host` to send, when rewritten.
    pub host: Option<Arc<str>>,
    /// Edits of the request, in the order in which they apply.
    pub request_edits: Vec<HeaderEdits>,
    /// Those that were drawn.
    pub mirrors: Vec<BackendRef>,
    #[allow(missing_docs)]
    pub timeouts: Timeouts,
    /// `None`: the default.
    pub retry: Option<Retry>,
}

/// The plan of one backend, or why there is none, with its weight.
pub type Weighted = (u32, Result<RequestPlan, Refusal>);

/// The plan for a request to a service that no route is attached to: to the service itself.
#[must_use]
pub fn forward_without_route(service: &NamespacedName, port: u16) -> RequestPlan {
    RequestPlan {
        rule: None,
        limits: Vec::new(),
        authorizers: Vec::new(),
        fault: None,
        cors: None,
        action: Ok(Forward {
            service: service.clone(),
            port,
            path: None,
            host: None,
            request_edits: Vec::new(),
            mirrors: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
        }),
        response_edits: Vec::new(),
    }
}

pub(super) fn plan(
    rule: &Arc<RouteRule>,
    matched: &Matched,
    head: &RequestHead<'_>,
    picker: &mut impl Picker,
) -> Result<RequestPlan, Refusal> {
    plan_with(rule, matched, head, picker, turn)
}

/// The plans for a request, one for each backend that has a weight, with that. Mirrors are in them that are always sent to.
pub(super) fn plans(
    rule: &Arc<RouteRule>,
    matched: &Matched,
    head: &RequestHead<'_>,
) -> Vec<Weighted> {
    let backends = rule.backends.iter().enumerate();
    let backends = backends.filter(|(_, backend)| backend.weight > 0);
    let plans = backends.map(|(at, backend)| {
        let plan = plan_with(rule, matched, head, &mut |bound: u32| bound - 1, |_, _| {
            Ok(at)
        });
        (backend.weight, plan)
    });
    plans.collect()
}

/// The same, where `turn` says whose it is.
fn plan_with<P: Picker>(
    rule: &Arc<RouteRule>,
    matched: &Matched,
    head: &RequestHead<'_>,
    picker: &mut P,
    turn: impl FnOnce(&RouteRule, &mut P) -> Result<usize, Refusal>,
) -> Result<RequestPlan, Refusal> {
    if let Some(reason) = &rule.invalid {
        return Err(invalid(rule, reason));
    }
    let mut filters = Filters::new(matched, head);
    filters.add(&rule.filters, rule, picker)?;
    let action = match filters.redirect.take() {
        Some(redirect) => Err(redirect),
        None => {
            let chosen = &rule.backends[turn(rule, picker)?];
            filters.add(&chosen.filters, rule, picker)?;
            match (filters.redirect.take(), &chosen.backend) {
                (Some(redirect), _) => Err(redirect),
                (None, BackendRef::Invalid { reason }) => return Err(invalid(rule, reason)),
                (None, BackendRef::Service { service, port }) => Ok(Forward {
                    service: service.clone(),
                    port: *port,
                    path: filters.path,
                    host: filters.host,
                    request_edits: filters.request_edits,
                    mirrors: filters.mirrors,
                    timeouts: rule.timeouts,
                    retry: rule.retry.clone(),
                }),
            }
        }
    };
    // What the backend's filters do to a response is done before what the rule's do.
    filters.response_edits.reverse();
    Ok(RequestPlan {
        rule: Some(rule.clone()),
        limits: filters.limits,
        authorizers: filters.authorizers,
        fault: filters.fault,
        cors: filters.cors,
        action,
        response_edits: filters.response_edits,
    })
}

/// The backend whose turn it is.
///
/// # Errors
/// 500 when the rule cannot be followed: it is invalid, has no backends, or all weights are 0.
pub fn draw<'a>(rule: &'a RouteRule, picker: &mut impl Picker) -> Result<&'a BackendRef, Refusal> {
    if let Some(reason) = &rule.invalid {
        return Err(invalid(rule, reason));
    }
    Ok(&rule.backends[turn(rule, picker)?].backend)
}

/// Its position.
fn turn(rule: &RouteRule, picker: &mut impl Picker) -> Result<usize, Refusal> {
    let total: u64 = rule.backends.iter().map(|it| u64::from(it.weight)).sum();
    if total == 0 {
        let why = match rule.backends.len() {
            0 => "it has no backends",
            _ => "the weights of all its backends are 0",
        };
        return Err(invalid(rule, why));
    }
    // Gateway API limits weights to 1,000,000 and backends to 16.
    let mut drawn = u64::from(picker.next(u32::try_from(total).unwrap_or(u32::MAX)));
    for (index, backend) in rule.backends.iter().enumerate() {
        let weight = u64::from(backend.weight);
        if drawn < weight {
            return Ok(index);
        }
        drawn -= weight;
    }
    Ok(rule.backends.len() - 1)
}

fn invalid(rule: &RouteRule, reason: &str) -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
        Flag::NoClusterFound,
        format!("rule {} cannot be followed: {reason}", rule.key),
    )
}

/// Filters, taken in order.
struct Filters<'a> {
    matched: &'a Matched,
    head: &'a RequestHead<'a>,
    limits: Vec<RateLimit>,
    authorizers: Vec<NamespacedName>,
    fault: Option<Fault>,
    cors: Option<Cors>,
    redirect: Option<action::Redirected>,
    path: Option<CanonicalPath>,
    host: Option<Arc<str>>,
    request_edits: Vec<HeaderEdits>,
    response_edits: Vec<HeaderEdits>,
    mirrors: Vec<BackendRef>,
}

impl<'a> Filters<'a> {
    fn new(matched: &'a Matched, head: &'a RequestHead<'a>) -> Self {
        Self {
            matched,
            head,
            limits: Vec::new(),
            authorizers: Vec::new(),
            fault: None,
            cors: None,
            redirect: None,
            path: None,
            host: None,
            request_edits: Vec::new(),
            response_edits: Vec::new(),
            mirrors: Vec::new(),
        }
    }

    fn add(
        &mut self,
        filters: &[Filter],
        rule: &RouteRule,
        picker: &mut impl Picker,
    ) -> Result<(), Refusal> {
        for filter in filters {
            match filter {
                Filter::RequestHeaders(edits) => self.request_edits.push(edits.clone()),
                Filter::ResponseHeaders(edits) => self.response_edits.push(edits.clone()),
                Filter::Redirect(redirect) => {
                    let to = action::redirect(redirect, self.matched, self.head);
                    self.redirect = Some(to.map_err(|why| invalid(rule, &why))?);
                }
                Filter::Rewrite(rewrite) => {
                    if let Some(edit) = &rewrite.path {
                        let path = action::rewrite(edit, self.matched, self.head.path);
                        let path = path.map_err(|why| invalid(rule, &why.to_string()))?;
                        self.path = Some(path);
                    }
                    if let Some(host) = &rewrite.hostname {
                        self.host = Some(host.clone());
                    }
                }
                Filter::Mirror(mirror) if drawn(mirror, picker) => {
                    self.mirrors.push(mirror.backend.clone());
                }
                Filter::Mirror(_) => {}
                Filter::Cors(cors) => self.cors = Some(cors.clone()),
                Filter::ExternalAuth(key) => self.authorizers.push(key.clone()),
                Filter::RateLimit(limit) => self.limits.push(limit.clone()),
                Filter::Fault(fault) => self.fault = Some(fault.clone()),
            }
        }
        Ok(())
    }
}

fn drawn(mirror: &Mirror, picker: &mut impl Picker) -> bool {
    mirror.numerator >= mirror.denominator
        || mirror.numerator > 0 && picker.next(mirror.denominator) < mirror.numerator
}
