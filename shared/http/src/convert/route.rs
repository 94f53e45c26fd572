//! `ambit.waypoint.Route`.

use std::sync::Arc;

use ambit_core::convert::ConvertError;
use ambit_core::convert::error::{At, each, known};
use ambit_proto::waypoint as proto;
use http::Method;

use super::filter::{filter, wire_filter};
use super::value::{
    backend, duration, header_name, name, optional_duration, optional_port, wire_backend,
    wire_duration, wire_name, wire_texts, within,
};
use crate::model::route::{
    HeaderMatch, Parent, PathMatch, QueryMatch, Regex, Retry, Timeouts, ValueMatch,
};
use crate::model::{Backend, Protocol, RouteKey, RouteMatch, RouteRule};

/// The highest weight of Gateway API.
const MAX_WEIGHT: u32 = 1_000_000;

pub(super) fn rule(wire: &proto::Route) -> Result<RouteRule, ConvertError> {
    Ok(RouteRule {
        key: key(wire)?,
        parents: parents(wire)?,
        created: wire.created,
        consumer: consumer(wire)?,
        sni: each("sni", &wire.sni, |name| sni(name))?,
        matches: each("matches", &wire.matches, one_match)?,
        filters: each("filters", &wire.filters, filter)?,
        backends: each("backends", &wire.backends, weighted)?,
        timeouts: Timeouts {
            request: optional_duration("request_timeout", wire.request_timeout.as_ref())?,
            backend_request: optional_duration("backend_timeout", wire.backend_timeout.as_ref())?,
        },
        retry: wire.retry.as_ref().map(retry).transpose().at("retry")?,
        invalid: wire.invalid.as_deref().map(Arc::from),
    })
}

fn key(wire: &proto::Route) -> Result<RouteKey, ConvertError> {
    let protocol = match known("protocol", wire.protocol, "a known protocol")? {
        proto::Protocol::Grpc => Protocol::Grpc,
        proto::Protocol::Http => Protocol::Http,
        proto::Protocol::Tls => Protocol::Tls,
        proto::Protocol::Tcp => Protocol::Tcp,
        proto::Protocol::Unspecified => {
            return Err(ConvertError::new("protocol", (), "a known protocol"));
        }
    };
    Ok(RouteKey {
        protocol,
        route: name("route", wire.route.as_ref())?,
        rule: within("rule", wire.rule, 0..=65_535, "a position below 65536")?,
    })
}

fn parents(wire: &proto::Route) -> Result<Vec<Parent>, ConvertError> {
    if wire.parents.is_empty() {
        return Err(ConvertError::new("parents", (), "at least one service"));
    }
    each("parents", &wire.parents, |parent| {
        Ok(Parent {
            service: name("service", parent.service.as_ref())?,
            port: optional_port("port", parent.port)?,
        })
    })
}

fn consumer(wire: &proto::Route) -> Result<Option<Arc<str>>, ConvertError> {
    match wire.consumer.as_deref() {
        Some("") => Err(ConvertError::new("consumer", "", "a namespace")),
        other => Ok(other.map(Arc::from)),
    }
}

fn sni(name: &str) -> Result<Arc<str>, ConvertError> {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if labels.is_empty() || !labels.bytes().all(allowed) {
        return Err(ConvertError::new("", name, "a host name in lower case"));
    }
    Ok(name.into())
}

fn one_match(wire: &proto::RouteMatch) -> Result<RouteMatch, ConvertError> {
    Ok(RouteMatch {
        path: wire.path.as_ref().map(path).transpose().at("path")?,
        method: wire
            .method
            .as_deref()
            .map(|text| {
                Method::from_bytes(text.as_bytes())
                    .map_err(|_| ConvertError::new("method", text, "an HTTP method"))
            })
            .transpose()?,
        headers: each("headers", &wire.headers, |header| {
            Ok(HeaderMatch {
                name: header_name(&header.name).at("name")?,
                value: value(header)?,
            })
        })?,
        query: each("query", &wire.query, |query| {
            Ok(QueryMatch {
                name: query.name.as_str().into(),
                value: value(query)?,
            })
        })?,
    })
}

fn path(wire: &proto::PathMatch) -> Result<PathMatch, ConvertError> {
    use proto::path_match::Match;
    match &wire.r#match {
        Some(Match::Exact(text)) if text.starts_with('/') => {
            Ok(PathMatch::Exact(text.as_str().into()))
        }
        Some(Match::Prefix(text))
            if text == "/" || (text.starts_with('/') && !text.ends_with('/')) =>
        {
            Ok(PathMatch::Prefix(text.as_str().into()))
        }
        Some(Match::Exact(text)) => Err(ConvertError::new("exact", text, "a path from /")),
        Some(Match::Prefix(text)) => {
            let expected = "a path from / without a slash at its end";
            Err(ConvertError::new("prefix", text, expected))
        }
        Some(Match::Regex(text)) => regex(text).map(PathMatch::Regex),
        None => Err(ConvertError::new("", (), "exact, prefix or regex")),
    }
}

fn value(wire: &proto::ValueMatch) -> Result<ValueMatch, ConvertError> {
    use proto::value_match::Match;
    match &wire.r#match {
        Some(Match::Exact(text)) => Ok(ValueMatch::Exact(text.as_str().into())),
        Some(Match::Regex(text)) => regex(text).map(ValueMatch::Regex),
        None => Err(ConvertError::new("", (), "exact or regex")),
    }
}

fn regex(text: &str) -> Result<Regex, ConvertError> {
    Regex::new(text).map_err(|_| {
        let expected = "a regular expression of linear time, less than a MiB when compiled";
        ConvertError::new("regex", text, expected)
    })
}

fn weighted(wire: &proto::WeightedBackend) -> Result<Backend, ConvertError> {
    Ok(Backend {
        weight: within("weight", wire.weight, 0..=MAX_WEIGHT, "0 to 1000000")?,
        backend: backend(wire.backend.as_ref())?,
        filters: each("filters", &wire.filters, filter)?,
    })
}

fn retry(wire: &proto::Retry) -> Result<Retry, ConvertError> {
    Ok(Retry {
        attempts: within("attempts", wire.attempts, 0..=100, "0 to 100")?,
        codes: each("codes", &wire.codes, |code| {
            within("", *code, 400..=599, "a status of 400 to 599")
        })?,
        backoff: duration("backoff", wire.backoff.as_ref())?,
    })
}

impl From<&RouteRule> for proto::Route {
    fn from(rule: &RouteRule) -> Self {
        Self {
            protocol: match rule.key.protocol {
                Protocol::Grpc => proto::Protocol::Grpc,
                Protocol::Http => proto::Protocol::Http,
                Protocol::Tls => proto::Protocol::Tls,
                Protocol::Tcp => proto::Protocol::Tcp,
            }
            .into(),
            route: Some(wire_name(&rule.key.route)),
            rule: rule.key.rule.into(),
            parents: rule
                .parents
                .iter()
                .map(|parent| proto::Parent {
                    service: Some(wire_name(&parent.service)),
                    port: parent.port.map(u32::from),
                })
                .collect(),
            created: rule.created,
            consumer: rule.consumer.as_deref().map(str::to_owned),
            sni: wire_texts(&rule.sni),
            matches: rule.matches.iter().map(wire_match).collect(),
            filters: rule.filters.iter().map(wire_filter).collect(),
            backends: rule.backends.iter().map(wire_weighted).collect(),
            request_timeout: rule.timeouts.request.map(wire_duration),
            backend_timeout: rule.timeouts.backend_request.map(wire_duration),
            retry: rule.retry.as_ref().map(|retry| proto::Retry {
                attempts: retry.attempts,
                codes: retry.codes.iter().map(|code| u32::from(*code)).collect(),
                backoff: Some(wire_duration(retry.backoff)),
            }),
            invalid: rule.invalid.as_deref().map(str::to_owned),
        }
    }
}

fn wire_match(found: &RouteMatch) -> proto::RouteMatch {
    use proto::path_match::Match;
    proto::RouteMatch {
        path: found.path.as_ref().map(|path| proto::PathMatch {
            r#match: Some(match path {
                PathMatch::Exact(text) => Match::Exact(text.to_string()),
                PathMatch::Prefix(text) => Match::Prefix(text.to_string()),
                PathMatch::Regex(regex) => Match::Regex(regex.as_str().to_owned()),
            }),
        }),
        method: found.method.as_ref().map(ToString::to_string),
        headers: found
            .headers
            .iter()
            .map(|header| wire_value(header.name.as_str(), &header.value))
            .collect(),
        query: found
            .query
            .iter()
            .map(|query| wire_value(&query.name, &query.value))
            .collect(),
    }
}

fn wire_value(name: &str, value: &ValueMatch) -> proto::ValueMatch {
    use proto::value_match::Match;
    proto::ValueMatch {
        name: name.to_owned(),
        r#match: Some(match value {
            ValueMatch::Exact(text) => Match::Exact(text.to_string()),
            ValueMatch::Regex(regex) => Match::Regex(regex.as_str().to_owned()),
        }),
    }
}

fn wire_weighted(backend: &Backend) -> proto::WeightedBackend {
    proto::WeightedBackend {
        weight: backend.weight,
        backend: Some(wire_backend(&backend.backend)),
        filters: backend.filters.iter().map(wire_filter).collect(),
    }
}
