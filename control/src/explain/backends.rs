//! What a route's rule does with a request besides choosing where it goes: shares of backends, how long, how often.

use std::cell::Cell;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_http::model::RouteRule;
use ambit_http::model::route::{BackendRef, Filter, Retry, Timeouts};
use ambit_http::refusal::Refusal;
use ambit_http::route::{Forward, RequestHead, RequestPlan, Routes, select};

/// Backends are tried by so many numbers: one with a smaller part of all is not.
const DRAWS: u32 = 10_000;

/// One of the backends that share what follows a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    /// Of all requests, when others have one as well.
    pub(super) percent: Option<String>,
    /// A service and its port; or what is answered instead.
    pub(super) to: Result<(NamespacedName, u16), String>,
}

/// A plan that sends the request on, if any backend is one that it is sent to; else what the first one makes of it.
pub(super) fn sent(routes: &Routes<'_>, head: &RequestHead<'_>) -> Result<RequestPlan, Refusal> {
    let total = Cell::new(None);
    // The first number draws the backend.
    let draw = |wanted: u32| {
        let mut first = Some(wanted);
        select(routes, head, &mut |bound: u32| {
            total.set(total.get().or(Some(bound)));
            first.take().unwrap_or_default()
        })
    };
    let drawn = draw(0);
    let is_sent = |plan: &Result<RequestPlan, Refusal>| matches!(plan, Ok(it) if it.action.is_ok());
    if is_sent(&drawn) {
        return drawn;
    }
    let total: u32 = total.get().unwrap_or(1);
    let step = (total / DRAWS).max(1);
    let mut others = (1..total).step_by(step as usize).map(draw);
    others.find(is_sent).unwrap_or(drawn)
}

/// The backends that a request may be drawn for.
pub(super) fn shares(rule: Option<&RouteRule>, forward: &Forward) -> Vec<Share> {
    let backends = rule.map_or(&[][..], |rule| &rule.backends);
    let total: u64 = backends.iter().map(|it| u64::from(it.weight)).sum();
    let mut shares: Vec<_> = backends
        .iter()
        .filter(|it| it.weight > 0)
        .map(|it| Share {
            percent: percent(it.weight, total),
            to: match &it.backend {
                _ if it
                    .filters
                    .iter()
                    .any(|it| matches!(it, Filter::Redirect(_))) =>
                {
                    Err("its filter redirects them".to_owned())
                }
                BackendRef::Service { service, port } => Ok((service.clone(), *port)),
                BackendRef::Invalid { reason } => Err(format!("500: {reason}")),
            },
        })
        .collect();
    if shares.is_empty() {
        shares.push(Share {
            percent: None,
            to: Ok((forward.service.clone(), forward.port)),
        });
    }
    shares
}

/// The share of a weight in percent, with two decimals at most; `None` of all.
fn percent(weight: u32, total: u64) -> Option<String> {
    let weight = u64::from(weight);
    if weight == total {
        return None;
    }
    let hundredths = (weight * 20_000 + total) / (2 * total);
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    Some(match (whole, rest) {
        (0, 0) => "less than 0.01".to_owned(),
        (whole, 0) => whole.to_string(),
        (whole, rest) if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        (whole, rest) => format!("{whole}.{rest:02}"),
    })
}

/// How long a request and each of its attempts may take.
pub(super) fn timeouts(of: &Timeouts) -> String {
    let known = [
        ("request", of.request),
        ("each attempt", of.backend_request),
    ];
    let known = known
        .into_iter()
        .filter_map(|(what, limit)| Some(format!("{what} {}", seconds(limit?))));
    let known: Vec<_> = known.collect();
    match known.is_empty() {
        true => "timeouts: none".to_owned(),
        false => format!("timeouts: {}", known.join(", ")),
    }
}

/// How often a failed attempt is made again, and which.
pub(super) fn retries(of: Option<&Retry>) -> String {
    let Some(retry) = of else {
        return "retries: the default, up to 2, of what no backend has acted on".to_owned();
    };
    if retry.attempts == 0 {
        return "retries: none".to_owned();
    }
    let codes: Vec<_> = retry.codes.iter().map(ToString::to_string).collect();
    let codes = match codes.is_empty() {
        true => String::new(),
        false => format!(" or are answered {}", codes.join(", ")),
    };
    format!(
        "retries: up to {}, of attempts that break or time out{codes}, after {} or more",
        retry.attempts,
        seconds(retry.backoff)
    )
}

fn seconds(of: Duration) -> String {
    match of.subsec_millis() {
        0 => format!("{}s", of.as_secs()),
        _ => format!("{}ms", of.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_as_exactly_as_they_matter() {
        for (weight, total, expected) in [
            (1, 1, None),
            (90, 100, Some("90")),
            (1, 3, Some("33.33")),
            (2, 3, Some("66.67")),
            (1, 1_000, Some("0.1")),
            (1, 1_000_000, Some("less than 0.01")),
            (5, 10_000, Some("0.05")),
        ] {
            assert_eq!(
                percent(weight, total).as_deref(),
                expected,
                "{weight}/{total}"
            );
        }
    }

    #[test]
    fn how_long_and_how_often_is_said_as_the_route_has_it() {
        let limits = Timeouts {
            request: Some(Duration::from_secs(10)),
            backend_request: Some(Duration::from_millis(1_500)),
        };
        assert_eq!(
            timeouts(&limits),
            "timeouts: request 10s, each attempt 1500ms"
        );
        assert_eq!(timeouts(&Timeouts::default()), "timeouts: none");
        let retry = |attempts, codes: &[u16]| Retry {
            attempts,
            codes: codes.to_vec(),
            backoff: Duration::from_millis(25),
        };
        assert_eq!(
            retries(Some(&retry(3, &[500, 503]))),
            "retries: up to 3, of attempts that break or time out or are answered 500, 503, after 25ms or more"
        );
        assert_eq!(
            retries(Some(&retry(1, &[]))),
            "retries: up to 1, of attempts that break or time out, after 25ms or more"
        );
        assert_eq!(retries(Some(&retry(0, &[500]))), "retries: none");
    }
}
