//! What a route's rule does with a request besides choosing where it goes: shares of backends, how long, how often.

use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_http::model::route::{Retry, Timeouts};
use ambit_http::route::Weighted;

/// One of the backends that share what follows a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    /// Of all requests, when others have one as well.
    pub(super) percent: Option<String>,
    /// A service and its port; or what is answered instead.
    pub(super) to: Result<(NamespacedName, u16), String>,
}

/// What comes of a request by these plans, with their weights.
pub(super) fn shares(plans: &[Weighted]) -> Vec<Share> {
    let total = plans.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let shares = plans.iter().map(|(weight, plan)| Share {
        percent: percent(*weight, total),
        to: match plan.as_ref().map(|plan| &plan.action) {
            Ok(Ok(forward)) => Ok((forward.service.clone(), forward.port)),
            Ok(Err(redirect)) => {
                let location = String::from_utf8_lossy(redirect.location.as_bytes());
                Err(format!("{} to {location}", redirect.status.as_u16()))
            }
            Err(refusal) => Err(format!("{}: {}", refusal.status, refusal.reason)),
        },
    });
    shares.collect()
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
