//! Cross-origin requests (Gateway API HTTPCORSFilter, the Fetch standard's CORS protocol).

use std::fmt::Write;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};

use crate::model::route::Cors;

/// The headers that answer a preflight, with status 204; `None` when the request is none. An origin
/// that is not allowed gets no headers, which the browser takes for a no.
#[must_use]
pub fn preflight(cors: &Cors, method: &Method, headers: &HeaderMap) -> Option<HeaderMap> {
    let origin = headers.get(header::ORIGIN)?;
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if method != Method::OPTIONS {
        return None;
    }
    let mut answer = HeaderMap::new();
    if !allow_origin(cors, origin, &mut answer) {
        return Some(answer);
    }
    // A wildcard means nothing to a browser that sends credentials: the asked-for value does.
    let allow = |allowed: &[Arc<str>], asked: Option<&HeaderValue>| -> Option<HeaderValue> {
        if !is_wildcard(allowed) {
            return list(allowed);
        }
        match asked {
            Some(asked) if cors.allow_credentials => Some(asked.clone()),
            _ => Some(HeaderValue::from_static("*")),
        }
    };
    let asked_headers = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let mut set = |name, value: Option<HeaderValue>| {
        if let Some(value) = value {
            answer.insert(name, value);
        }
    };
    let methods = allow(&cors.allow_methods, Some(asked));
    set(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed_headers = allow(&cors.allow_headers, asked_headers);
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers);
    let age = (cors.max_age > 0).then(|| HeaderValue::from(cors.max_age));
    set(header::ACCESS_CONTROL_MAX_AGE, age);
    Some(answer)
}

/// Adds to a response what its origin may see, instead of what the backend said of it.
pub fn decorate(cors: &Cors, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
    let Some(origin) = origin else { return };
    for name in [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        response.remove(name);
    }
    if !allow_origin(cors, origin, response) {
        return;
    }
    if let Some(exposed) = list(&cors.expose_headers) {
        response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

fn allow_origin(cors: &Cors, origin: &HeaderValue, answer: &mut HeaderMap) -> bool {
    let Ok(text) = origin.to_str() else {
        return false;
    };
    let any = is_wildcard(&cors.allow_origins);
    if !any && !cors.allow_origins.iter().any(|it| origin_fits(it, text)) {
        return false;
    }
    let value = match any && !cors.allow_credentials {
        true => HeaderValue::from_static("*"),
        false => origin.clone(),
    };
    if value != "*" {
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    if cors.allow_credentials {
        let value = HeaderValue::from_static("true");
        answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, value);
    }
    true
}

fn is_wildcard(list: &[Arc<str>]) -> bool {
    list.iter().any(|it| &**it == "*")
}

/// `scheme://host[:port]`; `*.` at the start of the host stands for one or more labels.
fn origin_fits(allowed: &str, origin: &str) -> bool {
    let (Some((scheme, host)), Some((origin_scheme, origin_host))) =
        (allowed.split_once("://"), origin.split_once("://"))
    else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case(origin_scheme) {
        return false;
    }
    match host.strip_prefix('*') {
        Some(suffix) => {
            let (host, end) = (
                origin_host.to_ascii_lowercase(),
                suffix.to_ascii_lowercase(),
            );
            suffix.starts_with('.') && host.len() > end.len() && host.ends_with(&end)
        }
        None => host.eq_ignore_ascii_case(origin_host),
    }
}

fn list(values: &[Arc<str>]) -> Option<HeaderValue> {
    let mut text = String::new();
    for value in values {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{value}").expect("writing to a String cannot fail");
    }
    HeaderValue::try_from(text)
        .ok()
        .filter(|text| !text.is_empty())
}
