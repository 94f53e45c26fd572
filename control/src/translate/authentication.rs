//! RequestAuthentication as waypoints enforce it.
//!
//! A rule that makes no sense accepts nothing: tokens of its issuer are refused by the others. When no
//! rule is left, every token is refused.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::jwt::JwksUrl;
use ambit_http::model::route::BackendRef;
use ambit_http::model::{JwtRule, KeySource, RequestAuthentication, Resource, TokenSource};
use http::{Uri, header};
use k8s_openapi::api::core::v1::Service;

use super::reference::port_of;
use super::view::{Outcome, View};
use super::{target, values};
use crate::source::istio;

/// The resource of an object with targets; node proxies see no tokens.
#[must_use]
pub fn translate(
    namespace: &str,
    name: &str,
    object: &istio::RequestAuthentication,
    view: &View<'_>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let spec = &object.spec;
    let references: Vec<_> = spec.target_ref.iter().chain(&spec.target_refs).collect();
    if references.is_empty() {
        let notice = "has no effect: only waypoints look at tokens; name a Service or Gateway in spec.targetRefs";
        outcome.notices.push(notice.to_owned());
        outcome.status = Some(target::untargeted(&object.metadata, notice));
        return outcome;
    }
    let targets = target::targets(namespace, references, view);
    outcome.problems = targets.problems;
    let mut rules = Vec::new();
    for (at, rule) in spec.jwt_rules.iter().enumerate() {
        let at = format!("spec.jwtRules[{at}]");
        match read(rule, view) {
            Ok(rule) => rules.push(rule),
            Err(error) => {
                let problem = format!("{at}.{error}; tokens of this issuer are refused");
                outcome.problems.push(problem);
            }
        }
        if rule.presence.as_deref() == Some("REQUIRED") {
            outcome.problems.push(format!(
                "{at}.presence: a request without a token passes; require requestPrincipals in an AuthorizationPolicy"
            ));
        }
        if !rule.space_delimited_claims.is_empty() {
            outcome
                .notices
                .push(format!("{at}.spaceDelimitedClaims has no effect"));
        }
    }
    let undecodable = (rules.is_empty() && !spec.jwt_rules.is_empty())
        .then(|| "no rule of it makes sense; see its status".into());
    if !targets.found.is_empty() {
        let resource = RequestAuthentication {
            key: NamespacedName::new(namespace, name),
            targets: targets.found,
            rules,
            undecodable,
        };
        outcome
            .resources
            .push(Resource::Authentication(Arc::new(resource)));
    }
    outcome.notices.extend(targets.served.notices());
    let accepted = target::accepted(&object.metadata, &outcome.problems, &targets.served);
    outcome.status = Some(accepted);
    outcome
}

fn read(rule: &istio::JwtRule, view: &View<'_>) -> Result<JwtRule, String> {
    if rule.issuer.is_empty() {
        return Err("issuer is missing".to_owned());
    }
    let mut sources = Vec::new();
    for header in &rule.from_headers {
        sources.push(TokenSource::Header {
            name: values::header(&header.name).map_err(|error| format!("fromHeaders: {error}"))?,
            prefix: header.prefix.as_deref().unwrap_or_default().into(),
        });
    }
    let named = |field: &str, name: &str| -> Result<Arc<str>, String> {
        if name.is_empty() {
            return Err(format!("{field}: a name is empty"));
        }
        Ok(name.into())
    };
    for name in &rule.from_params {
        sources.push(TokenSource::Query(named("fromParams", name)?));
    }
    for name in &rule.from_cookies {
        sources.push(TokenSource::Cookie(named("fromCookies", name)?));
    }
    if sources.is_empty() {
        sources.push(TokenSource::Header {
            name: header::AUTHORIZATION,
            prefix: "Bearer ".into(),
        });
        sources.push(TokenSource::Query("access_token".into()));
    }
    let claims = rule.output_claim_to_headers.iter().map(|output| {
        let name = output_header(&output.header)
            .map_err(|error| format!("outputClaimToHeaders: {error}"))?;
        let path: Vec<Arc<str>> = output.claim.split('.').map(Arc::from).collect();
        if path.iter().any(|part| part.is_empty()) {
            return Err(format!(
                "outputClaimToHeaders: {:?} is no claim",
                output.claim
            ));
        }
        Ok((name, path))
    });
    Ok(JwtRule {
        issuer: rule.issuer.as_str().into(),
        audiences: rule
            .audiences
            .iter()
            .map(|text| text.as_str().into())
            .collect(),
        keys: keys(rule, view)?,
        sources,
        forward: rule.forward_original_token,
        payload_header: rule
            .output_payload_to_header
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(output_header)
            .transpose()
            .map_err(|error| format!("outputPayloadToHeader: {error}"))?,
        claim_headers: claims.collect::<Result<_, String>>()?,
    })
}

/// A header for the backend; not one that the proxy alone says.
fn output_header(name: &str) -> Result<http::HeaderName, String> {
    let header = values::header(name)?;
    if ambit_http::headers::is_ours(&header) {
        return Err(format!("{name:?} is set by the proxy; choose another"));
    }
    Ok(header)
}

fn keys(rule: &istio::JwtRule, view: &View<'_>) -> Result<KeySource, String> {
    let inline = rule.jwks.as_deref().filter(|text| !text.is_empty());
    let uri = rule.jwks_uri.as_deref().filter(|text| !text.is_empty());
    match (inline, uri) {
        (Some(_), Some(_)) => Err("jwks and jwksUri exclude each other".to_owned()),
        (None, None) => Err("jwks or jwksUri is needed: keys are not discovered".to_owned()),
        (Some(text), None) => {
            let set: serde_json::Value =
                serde_json::from_str(text).map_err(|error| format!("jwks: {error}"))?;
            if !set.get("keys").is_some_and(serde_json::Value::is_array) {
                return Err("jwks has no keys".to_owned());
            }
            Ok(KeySource::Inline(text.into()))
        }
        (None, Some(text)) => from_uri(text, view),
    }
}

/// Keys of a service of the mesh are fetched through the mesh, others over the network.
fn from_uri(text: &str, view: &View<'_>) -> Result<KeySource, String> {
    let wrong = || format!("jwksUri: {text:?} is not an http or https URL");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(wrong());
    };
    if scheme == "http"
        && let Some((namespace, name)) = service_of(host, view)
        && let Some(service) = view.find::<Service>(namespace, name)
    {
        let port = uri.port_u16().unwrap_or(80);
        let Some(port) = port_of(service, port.into()) else {
            let what = format!("Service {namespace}/{name} has no TCP port {port}");
            return Err(format!("jwksUri: {what}"));
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        return Ok(KeySource::Service {
            backend: BackendRef::Service {
                service: view.service_key(namespace, name),
                port,
            },
            host: host.into(),
            path: path.into(),
        });
    }
    // Also where waypoints would not go: they check it again, and what it resolves to.
    JwksUrl::parse(text).map_err(|error| format!("jwksUri: {error}"))?;
    Ok(KeySource::Url(text.into()))
}

/// `NAME.NAMESPACE`, with or without `.svc` and the domain.
fn service_of<'a>(host: &'a str, view: &View<'_>) -> Option<(&'a str, &'a str)> {
    let (name, rest) = host.split_once('.')?;
    let (namespace, suffix) = rest.split_once('.').unwrap_or((rest, "svc"));
    let full = format!("svc.{}", view.mesh.cluster_domain);
    (suffix == "svc" || suffix == full).then_some((namespace, name))
}

#[cfg(test)]
#[path = "authentication_tests.rs"]
mod tests;
