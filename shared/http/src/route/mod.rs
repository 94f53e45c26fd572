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

use ambit_core::balance::Picker;
use http::{HeaderMap, Method};

use crate::host::Host;
use crate::path::CanonicalPath;
use crate::refusal::{Flag, Refusal};

pub use plan::{Forward, RequestPlan, draw, forward_without_route};
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
    let Some((rule, matched)) = routes.find(head) else {
        return Err(Refusal::new(
            404,
            Flag::NoRouteFound,
            format!(
                "no rule of any route matches {} {}",
                head.method,
                head.path.path()
            ),
        ));
    };
    plan::plan(rule, &matched, head, picker)
}
