//! The routes that every proxy has.

use http::{Method, StatusCode};

use super::{Query, Router, answer, text};
use crate::log::Logging;
use crate::metrics::{Format, Metrics};
use crate::readiness::Readiness;

/// `GET /metrics` and `GET /stats/prometheus`, in OpenMetrics where that is asked for and there may be exemplars. `before` runs
/// first, to bring gauges up to date.
#[must_use]
pub fn metrics(
    router: Router,
    metrics: &Metrics,
    before: impl Fn() + Clone + Send + Sync + 'static,
) -> Router {
    let about = "metrics in the Prometheus text format";
    ["/metrics", "/stats/prometheus"]
        .into_iter()
        .fold(router, |router, path| {
            let (metrics, before) = (metrics.clone(), before.clone());
            router.route(Method::GET, path, about, move |query| {
                before();
                let open = metrics.has_exemplars()
                    && query.accepts("application/openmetrics-text", "1.0.0");
                let format = match open {
                    true => Format::OpenMetrics,
                    false => Format::Prometheus,
                };
                let body = metrics.render_as(format);
                async move { answer(StatusCode::OK, format.content_type(), body) }
            })
        })
}

/// `GET /healthz/ready`: 200 once every task is done, else 503 and what is pending.
#[must_use]
pub fn ready(router: Router, readiness: &Readiness) -> Router {
    let readiness = readiness.clone();
    let about = "200 when ready, else 503 and what is missing";
    router.route(Method::GET, "/healthz/ready", about, move |_| {
        let pending = readiness.pending();
        async move {
            if pending.is_empty() {
                text(StatusCode::OK, "ready\n")
            } else {
                let body = format!("not ready, pending: {}\n", pending.join(", "));
                text(StatusCode::SERVICE_UNAVAILABLE, body)
            }
        }
    })
}

/// `POST /logging`: shows the filter, or changes it by `?level=...` and `?reset`.
#[must_use]
pub fn logging(router: Router, logging: &Logging) -> Router {
    let logging = logging.clone();
    let about = "log filter; ?level=info | ?level=TARGET=debug,... | ?reset";
    router.route(Method::POST, "/logging", about, move |query| {
        let answer = change_level(&logging, &query);
        async move { answer }
    })
}

fn change_level(logging: &Logging, query: &Query) -> super::Answer {
    // `TARGET:level` is how Envoy writes it; module paths keep their `::`.
    let level = query.value("level").map(|level| {
        let one = |directive: &str| match directive.rsplit_once(':') {
            Some((target, level)) if !target.ends_with(':') => format!("{target}={level}"),
            _ => directive.to_owned(),
        };
        level.split(',').map(one).collect::<Vec<_>>().join(",")
    });
    let reset = query.value("reset").is_some();
    if level.is_some() || reset {
        let level = level.unwrap_or_default();
        // A bare word would be taken for a target at full verbosity.
        let known = |d: &str| {
            d.contains('=') || matches!(d, "off" | "error" | "warn" | "info" | "debug" | "trace")
        };
        let bad = level.split(',').find(|d| !d.is_empty() && !known(d));
        let changed = match bad {
            Some(bad) => Err(format!("{bad:?} is no level")),
            None => logging.set_level(reset, &level).map_err(|e| e.to_string()),
        };
        if let Err(error) = changed {
            let body = format!(
                "{error}; a level is off, error, warn, info, debug or trace, or TARGET=LEVEL\n"
            );
            return text(StatusCode::BAD_REQUEST, body);
        }
        tracing::info!(filter = logging.level(), "log filter changed");
    }
    let body = format!("current log level is {}\n", logging.level());
    text(StatusCode::OK, body)
}
