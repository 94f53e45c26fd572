//! Who is asked: `ExternalAuthorizer`, and the `ExternalAuth` filter of a route.

use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_http::model::{Authorizer, AuthorizerKind, Resource};
use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_json::json;

use super::extension::GROUP;
use super::reference::{self, Referrer, Unresolved};
use super::status::{fails, holds};
use super::values;
use super::view::{Outcome, View};
use crate::source::Kind;
use crate::source::ambit::{ExternalAuthorizer, ExternalAuthorizerSpec};
use crate::source::gateway::route;

const TIMEOUT: &str = "1s";
const FORBIDDEN: i64 = 403;

/// An `ExternalAuthorizer`. One that makes no sense is not there, and who names it denies.
#[must_use]
pub fn translate(
    namespace: &str,
    name: &str,
    object: &ExternalAuthorizer,
    view: &View<'_>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let metadata = &object.metadata;
    let from = Referrer {
        group: GROUP,
        kind: Kind::ExternalAuthorizer,
        namespace,
        parents: &[],
    };
    let key = NamespacedName::new(namespace, name);
    let (accepted, resolved) = match read(key, &object.spec, from, view) {
        Ok((found, unresolved)) => {
            outcome
                .resources
                .push(Resource::Authorizer(Arc::new(found)));
            let resolved = match unresolved {
                None => holds(
                    metadata,
                    "ResolvedRefs",
                    "ResolvedRefs",
                    "the backend is good",
                ),
                Some(it) => {
                    outcome
                        .problems
                        .push(format!("{}; requests are denied", it.message));
                    fails(metadata, "ResolvedRefs", it.reason, &it.message)
                }
            };
            let accepted = holds(metadata, "Accepted", "Accepted", "it is asked");
            (accepted, Some(resolved))
        }
        Err(error) => {
            let accepted = fails(metadata, "Accepted", "UnsupportedValue", &error);
            outcome
                .problems
                .push(format!("{error}; who names it denies"));
            (accepted, None)
        }
    };
    let conditions: Vec<_> = [Some(accepted), resolved].into_iter().flatten().collect();
    outcome.status = Some(json!({ "conditions": conditions }));
    outcome
}

fn read(
    key: NamespacedName,
    spec: &ExternalAuthorizerSpec,
    from: Referrer<'_>,
    view: &View<'_>,
) -> Result<(Authorizer, Option<Unresolved>), String> {
    let kind = match (spec.protocol.as_str(), &spec.path_prefix) {
        ("GRPC", None) => AuthorizerKind::Grpc,
        ("GRPC", Some(_)) => return Err("spec.pathPrefix is for HTTP alone".to_owned()),
        ("HTTP", prefix) => AuthorizerKind::Http {
            path_prefix: prefix_of(prefix.as_deref())?,
        },
        (other, _) => return Err(format!("spec.protocol: {other:?} is not GRPC or HTTP")),
    };
    let status = spec.status_on_error.unwrap_or(FORBIDDEN);
    let (backend, unresolved) = reference::backend(view, from, &spec.backend_ref);
    let found = Authorizer {
        key,
        kind,
        backend,
        timeout: timeout(spec.timeout.as_deref().unwrap_or(TIMEOUT))?,
        fail_open: spec.fail_open,
        status_on_error: u16::try_from(status)
            .ok()
            .filter(|status| (400..600).contains(status))
            .ok_or_else(|| format!("spec.statusOnError: {status} is not 400 to 599"))?,
        request_headers: headers("spec.requestHeaders", &spec.request_headers)?,
        upstream_headers: headers("spec.upstreamHeaders", &spec.upstream_headers)?,
        body_limit: body_limit("spec.bodyLimit", spec.body_limit)?,
    };
    Ok((found, unresolved))
}

/// The authorizer of an `ExternalAuth` filter.
///
/// # Errors
/// A field that makes no sense.
pub fn of_filter(
    key: NamespacedName,
    auth: &route::ExternalAuth,
    from: Referrer<'_>,
    view: &View<'_>,
) -> Result<(Authorizer, Option<Unresolved>), String> {
    let (kind, wanted) = match auth.protocol.as_str() {
        "GRPC" => (AuthorizerKind::Grpc, auth.grpc.as_ref()),
        "HTTP" => {
            let path = auth.http.as_ref().and_then(|http| http.path.as_deref());
            let path_prefix = prefix_of(path)?;
            (AuthorizerKind::Http { path_prefix }, auth.http.as_ref())
        }
        other => return Err(format!("protocol {other:?} is not GRPC or HTTP")),
    };
    let (backend, unresolved) = reference::backend(view, from, &auth.backend_ref);
    let list = |of: fn(&route::ExternalAuthHeaders) -> &Vec<String>| {
        wanted.map(of).map_or(&[][..], Vec::as_slice)
    };
    let limit = auth.forward_body.as_ref().and_then(|body| body.max_size);
    let mut request_headers = headers("allowedHeaders", list(|h| &h.allowed_headers))?;
    if auth.protocol == "HTTP" && request_headers.is_empty() {
        // An empty list is all headers over gRPC, and none but this one over HTTP (`HTTPAuthConfig` of the Gateway API).
        request_headers.push(AUTHORIZATION);
    }
    let found = Authorizer {
        key,
        kind,
        backend,
        timeout: timeout(TIMEOUT)?,
        fail_open: false,
        status_on_error: 403,
        request_headers,
        upstream_headers: headers(
            "allowedResponseHeaders",
            list(|h| &h.allowed_response_headers),
        )?,
        body_limit: body_limit("forwardBody.maxSize", limit)?,
    };
    Ok((found, unresolved))
}

fn prefix_of(path: Option<&str>) -> Result<Arc<str>, String> {
    match path.unwrap_or_default() {
        path if path.is_empty() || path.starts_with('/') => Ok(path.into()),
        other => Err(format!("path {other:?} does not start with /")),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match values::duration(text) {
        Ok(found) if !found.is_zero() => Ok(found),
        Ok(_) => Err("spec.timeout is more than 0s".to_owned()),
        Err(error) => Err(format!("spec.timeout: {error}")),
    }
}

fn headers(field: &str, names: &[String]) -> Result<Vec<HeaderName>, String> {
    let found = names.iter().map(|name| values::header(name));
    found
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{field}: {error}"))
}

fn body_limit(field: &str, bytes: Option<i64>) -> Result<u32, String> {
    let bytes = bytes.unwrap_or_default();
    u32::try_from(bytes).map_err(|_| format!("{field}: {bytes} is not 0 to 4294967295"))
}

#[cfg(test)]
#[path = "authorizer_tests.rs"]
mod tests;
