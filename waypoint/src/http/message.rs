//! Requests and responses between the connections and the pipeline, whatever version they came in.

use std::sync::Arc;

use ambit_http::host::Host;
use ambit_http::path::CanonicalPath;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::body::Body;
use super::desk::Desk;
use super::h1;
use super::record::Record;

/// A request whose head is well-formed and canonical.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: CanonicalPath,
    pub(super) host: Host,
    /// As received.
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The protocols the client would switch to.
    pub(super) upgrade: Option<HeaderValue>,
    /// For logs and metrics.
    pub(super) version: &'static str,
    /// Where interim responses go.
    pub(super) desk: Arc<Desk>,
}

impl Request {
    pub(super) fn is_grpc(&self) -> bool {
        let kind = self.headers.get(http::header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }
}

/// A response.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// After 101: the connection that is now something else.
    pub(super) upgraded: Option<Box<h1::Raw>>,
    /// What is told of the request. Whoever sends the response says how that went.
    pub(super) record: Option<Box<Record>>,
}

impl Response {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Body::Empty,
            upgraded: None,
            record: None,
        }
    }
}
