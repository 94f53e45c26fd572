//! `ambit.dev` filters of routes, by `ExtensionRef`.

use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_http::model::Filter;
use ambit_http::model::route::{Fault, RateLimit, RateLimitScope};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::reference::Unresolved;
use super::status::{fails, holds};
use super::values;
use super::view::{Outcome, View};
use crate::source::ambit::{self, ExternalAuthorizer, FaultInjection};
use crate::source::gateway::LocalRef;

/// Group of our own objects.
pub const GROUP: &str = "ambit.dev";

/// The filter that a reference of this namespace leads to.
///
/// # Errors
/// It leads nowhere, or to an object that makes no sense.
pub fn filter(
    namespace: &str,
    reference: &LocalRef,
    view: &View<'_>,
) -> Result<Filter, Unresolved> {
    let name = reference.name.as_str();
    let kind = reference.kind.as_str();
    let missing = || Unresolved {
        reason: "BackendNotFound",
        message: format!("{kind} {namespace}/{name} does not exist"),
    };
    let key = NamespacedName::new(namespace, name);
    let read = match (reference.group.as_str(), kind) {
        (GROUP, "RateLimit") => {
            let found = view.find::<ambit::RateLimit>(namespace, name);
            rate_limit(key, &found.ok_or_else(missing)?.spec).map(Filter::RateLimit)
        }
        (GROUP, "FaultInjection") => {
            let found = view.find::<FaultInjection>(namespace, name);
            fault(&found.ok_or_else(missing)?.spec).map(Filter::Fault)
        }
        (GROUP, "ExternalAuthorizer") => {
            view.find::<ExternalAuthorizer>(namespace, name)
                .ok_or_else(missing)?;
            Ok(Filter::ExternalAuth(key))
        }
        (group, kind) => {
            return Err(Unresolved {
                reason: "InvalidKind",
                message: format!(
                    "a filter is a RateLimit, FaultInjection or ExternalAuthorizer of {GROUP}, not {kind} of {group:?}"
                ),
            });
        }
    };
    read.map_err(|error| Unresolved {
        reason: "InvalidKind",
        message: format!("{kind} {namespace}/{name}: {error}"),
    })
}

/// A `RateLimit`.
///
/// # Errors
/// A field that makes no sense.
pub fn rate_limit(key: NamespacedName, spec: &ambit::RateLimitSpec) -> Result<RateLimit, String> {
    let requests = u32::try_from(spec.requests).unwrap_or_default();
    if requests == 0 {
        return Err("spec.requests is at least 1".to_owned());
    }
    let interval = values::duration(spec.interval.as_deref().unwrap_or("1s"))
        .map_err(|error| format!("spec.interval: {error}"))?;
    if interval.is_zero() {
        return Err("spec.interval is more than 0s".to_owned());
    }
    let burst = match spec.burst {
        None => requests,
        Some(burst) => u32::try_from(burst)
            .ok()
            .filter(|burst| *burst >= requests)
            .ok_or("spec.burst is at least spec.requests")?,
    };
    let per = match spec.per.as_deref() {
        None | Some("" | "Route") => RateLimitScope::Route,
        Some("Client") => RateLimitScope::Client,
        Some(other) => return Err(format!("spec.per: {other:?} is not Route or Client")),
    };
    Ok(RateLimit {
        key,
        requests,
        interval,
        burst,
        per,
    })
}

/// A `FaultInjection`.
///
/// # Errors
/// A field that makes no sense.
pub fn fault(spec: &ambit::FaultInjectionSpec) -> Result<Fault, String> {
    if spec.delay.is_none() && spec.abort.is_none() {
        return Err("spec has neither delay nor abort".to_owned());
    }
    let delay = spec
        .delay
        .as_ref()
        .map(|delay| -> Result<(Duration, u32), String> {
            let duration = values::duration(&delay.duration)
                .map_err(|error| format!("spec.delay.duration: {error}"))?;
            Ok((duration, millionths("spec.delay.percent", delay.percent)?))
        });
    let abort = spec
        .abort
        .as_ref()
        .map(|abort| -> Result<(u16, u32), String> {
            let status = u16::try_from(abort.status)
                .ok()
                .filter(|status| (200..600).contains(status))
                .ok_or_else(|| format!("spec.abort.status: {} is not 200 to 599", abort.status))?;
            Ok((status, millionths("spec.abort.percent", abort.percent)?))
        });
    Ok(Fault {
        delay: delay.transpose()?,
        abort: abort.transpose()?,
    })
}

fn millionths(field: &str, percent: Option<f64>) -> Result<u32, String> {
    let percent = percent.unwrap_or(100.0);
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("{field}: {percent} is not 0 to 100"));
    }
    // At most 1,000,000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok((percent * 10_000.0).round() as u32)
}

/// What is told of an object by itself; routes that refer to it tell theirs.
#[must_use]
pub fn checked(metadata: &ObjectMeta, error: Option<String>) -> Outcome {
    let accepted = match &error {
        None => holds(metadata, "Accepted", "Accepted", "routes may refer to it"),
        Some(error) => fails(metadata, "Accepted", "UnsupportedValue", error),
    };
    Outcome {
        status: Some(json!({ "conditions": [accepted] })),
        problems: error.into_iter().collect(),
        ..Outcome::default()
    }
}

#[cfg(test)]
#[path = "extension_tests.rs"]
mod tests;
