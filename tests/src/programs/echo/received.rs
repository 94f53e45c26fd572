//! What was received, as JSON.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Value, json};

use super::Process;
use super::behaviour::parse_query;
use super::socket::Ends;

/// A body is quoted in the answer up to this length, when it is text.
pub(super) const QUOTED_BODY: usize = 4096;

/// A request body, summed up.
#[derive(Debug, Default, Serialize)]
pub(super) struct BodySummary {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) trailers: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Who<'a> {
    hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    remote_address: std::net::SocketAddr,
    local_address: std::net::SocketAddr,
}

#[derive(Serialize)]
struct Received<'a> {
    protocol: &'static str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    path: &'a str,
    /// Path and query as they came.
    target: &'a str,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    #[serde(flatten)]
    who: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<BodySummary>,
}

fn who(process: &Process, ends: Ends) -> Who<'_> {
    Who {
        hostname: &process.hostname,
        pod: process.pod.as_deref(),
        namespace: process.namespace.as_deref(),
        version: process.version.as_deref(),
        remote_address: ends.remote,
        local_address: ends.local,
    }
}

/// The answer to a raw connection.
pub(super) fn about_connection(process: &Process, ends: Ends) -> Value {
    let mut value = json!(who(process, ends));
    value["protocol"] = "tcp".into();
    value
}

/// The answer to a request.
pub(super) fn about_request(
    process: &Process,
    ends: Ends,
    parts: &Parts,
    body: Option<BodySummary>,
) -> Value {
    let host = parts.headers.get(http::header::HOST);
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => host.and_then(|host| host.to_str().ok()),
    };
    json!(Received {
        protocol: match parts.version {
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        },
        method: parts.method.as_str(),
        authority,
        path: parts.uri.path(),
        target: parts
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str()),
        query: parse_query(parts.uri.query().unwrap_or_default())
            .into_iter()
            .collect(),
        headers: fields(&parts.headers),
        who: who(process, ends),
        body,
    })
}

/// Fields by name; repeated ones joined as RFC 9110 section 5.3 allows.
pub(super) fn fields(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .keys()
        .map(|name| {
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            (name.to_string(), values.join(", "))
        })
        .collect()
}
