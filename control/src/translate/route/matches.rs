//! Matches of a rule.

use ambit_http::model::RouteMatch;
use ambit_http::model::route::{HeaderMatch, PathMatch, QueryMatch, Regex, ValueMatch};
use ambit_http::path;
use http::Method;

use super::super::values;
use crate::source::gateway::route::{GrpcMatch, GrpcMethod, HttpMatch, NamedValue, TypedValue};

/// A match of an `HTTPRoute`.
pub(super) fn http(wanted: &HttpMatch) -> Result<RouteMatch, String> {
    Ok(RouteMatch {
        path: wanted.path.as_ref().map(http_path).transpose()?.flatten(),
        method: wanted
            .method
            .as_deref()
            .map(|method| {
                Method::from_bytes(method.as_bytes())
                    .map_err(|_| format!("method: {method:?} is not a method"))
            })
            .transpose()?,
        headers: headers(&wanted.headers)?,
        query: once(&wanted.query_params, |name| name.to_owned())
            .map(|param| {
                Ok(QueryMatch {
                    name: param.name.as_str().into(),
                    value: value("queryParams", param)?,
                })
            })
            .collect::<Result<_, String>>()?,
    })
}

/// A match of a `GRPCRoute`: the path is `/SERVICE/METHOD`.
pub(super) fn grpc(wanted: &GrpcMatch) -> Result<RouteMatch, String> {
    Ok(RouteMatch {
        path: wanted.method.as_ref().map(grpc_path).transpose()?.flatten(),
        headers: headers(&wanted.headers)?,
        ..RouteMatch::default()
    })
}

/// `None` is every path.
fn http_path(wanted: &TypedValue) -> Result<Option<PathMatch>, String> {
    let value = wanted.value.as_deref().unwrap_or("/");
    match wanted.r#type.as_deref().unwrap_or("PathPrefix") {
        "Exact" => canonical(value).map(|text| Some(PathMatch::Exact(text.into()))),
        "PathPrefix" => match canonical(value)?.trim_end_matches('/') {
            "" => Ok(None),
            prefix => Ok(Some(PathMatch::Prefix(prefix.into()))),
        },
        "RegularExpression" => regex(value)
            .map(|regex| Some(PathMatch::Regex(regex)))
            .map_err(|error| format!("path.value: {error}")),
        other => Err(format!("path.type {other:?} is not known")),
    }
}

/// Requests are compared in their canonical form: anything else would never match.
fn canonical(value: &str) -> Result<&str, String> {
    match path::canonical(value) {
        Ok(found) if found.to_string() == value && found.query().is_none() => Ok(value),
        Ok(found) => Err(format!(
            "path.value: {value:?} never matches; write {:?}",
            found.path()
        )),
        Err(error) => Err(format!("path.value: {value:?}: {error}")),
    }
}

fn grpc_path(wanted: &GrpcMethod) -> Result<Option<PathMatch>, String> {
    let part = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (part(&wanted.service), part(&wanted.method));
    match (wanted.r#type.as_deref().unwrap_or("Exact"), service, method) {
        (_, None, None) => Ok(None),
        ("Exact", Some(service), Some(method)) => Ok(Some(PathMatch::Exact(
            format!("/{service}/{method}").into(),
        ))),
        ("Exact", Some(service), None) => Ok(Some(PathMatch::Prefix(format!("/{service}").into()))),
        ("Exact", None, Some(method)) => {
            let expression = format!("/[^/]+/{}", escape(&method));
            regex(&expression).map(|regex| Some(PathMatch::Regex(regex)))
        }
        ("RegularExpression", service, method) => {
            let any = || "[^/]+".to_owned();
            let (service, method) = (service.unwrap_or_else(any), method.unwrap_or_else(any));
            for part in [&service, &method] {
                regex(part).map_err(|error| format!("method: {error}"))?;
            }
            let expression = format!("/(?:{service})/(?:{method})");
            regex(&expression).map(|regex| Some(PathMatch::Regex(regex)))
        }
        (other, ..) => Err(format!("method.type {other:?} is not known")),
    }
}

/// Names of methods have no other character with a meaning.
fn escape(method: &str) -> String {
    method.replace('.', "\\.")
}

fn headers(wanted: &[NamedValue]) -> Result<Vec<HeaderMatch>, String> {
    once(wanted, str::to_ascii_lowercase)
        .map(|header| {
            Ok(HeaderMatch {
                name: values::header(&header.name).map_err(|error| format!("headers: {error}"))?,
                value: value("headers", header)?,
            })
        })
        .collect()
}

/// Of several entries for a name the first counts (Gateway API).
fn once(wanted: &[NamedValue], form: impl Fn(&str) -> String) -> impl Iterator<Item = &NamedValue> {
    let mut seen = std::collections::BTreeSet::new();
    wanted
        .iter()
        .filter(move |entry| seen.insert(form(&entry.name)))
}

fn value(field: &str, wanted: &NamedValue) -> Result<ValueMatch, String> {
    match wanted.r#type.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(ValueMatch::Exact(wanted.value.as_str().into())),
        "RegularExpression" => regex(&wanted.value)
            .map(ValueMatch::Regex)
            .map_err(|error| format!("{field} {:?}: {error}", wanted.name)),
        other => Err(format!(
            "{field} {:?}: type {other:?} is not known",
            wanted.name
        )),
    }
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.lines().collect::<Vec<_>>().join(" "))
}
