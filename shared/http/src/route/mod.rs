//! Which rule a request follows, and what that means for it.
//!
//! [`Routes`] holds the rules of one service port as a client sees them; [`select`] finds the rule in
//! near-constant time and turns it into a [`RequestPlan`]: an answer, or where to and how. Precedence is
//! the Gateway API's (HTTPRouteRule.matches): exact path, longest prefix, regular expression, method,
//! number of headers, number of query parameters, oldest object, namespace and name, order of rules.

pub mod action;
pub mod cors;
pub mod edit;
mod matcher;
mod plan;
mod query;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ambit_core::balance::{First, Picker};
use http::{HeaderMap, Method};

use crate::host::Host;
use crate::model::RouteRule;
use crate::path::CanonicalPath;
use crate::refusal::{Flag, Refusal};

pub use plan::{Forward, RequestPlan, Weighted, draw, forward_without_route};
use table::Matched;
pub use table::{Routes, ServiceRoutes};

/// What routes look at.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    #[allow(missing_docs)]
    pub method: &'a Method,
    /// `Host` or `:authority`.
    pub host: &'a Host,
    /// Canonical.
    pub path: &'a CanonicalPath,
    #[allow(missing_docs)]
    pub headers: &'a HeaderMap,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
}

/// Finds the rule that a request follows and says what to do.
///
/// # Errors
/// 404 when no rule matches; 500 when the rule, or the backend that was drawn, cannot be honoured.
pub fn select(
    routes: &Routes<'_>,
    head: &RequestHead<'_>,
    picker: &mut impl Picker,
) -> Result<RequestPlan, Refusal> {
    let (rule, matched) = find(routes, head)?;
    plan::plan(rule, &matched, head, picker)
}

/// The same for each backend that a request may be drawn for, with the weight of that; of a rule that draws none, what it does.
///
/// # Errors
/// 404 when no rule matches.
pub fn select_each(routes: &Routes<'_>, head: &RequestHead<'_>) -> Result<Vec<Weighted>, Refusal> {
    let (rule, matched) = find(routes, head)?;
    let mut plans = plan::plans(rule, &matched, head);
    if plans.is_empty() {
        plans.push((1, plan::plan(rule, &matched, head, &mut First)));
    }
    Ok(plans)
}

fn find<'a>(
    routes: &Routes<'a>,
    head: &RequestHead<'_>,
) -> Result<(&'a Arc<RouteRule>, Matched), Refusal> {
    routes.find(head).ok_or_else(|| {
        let (method, path) = (head.method, head.path.path());
        let text = format!("no rule of any route matches {method} {path}");
        Refusal::new(404, Flag::NoRouteFound, text)
    })
}
