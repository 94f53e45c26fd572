//! Answers of our own: a status and nothing that tells a stranger more.

use ambit_http::refusal::Refusal;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::body::Body;
use super::message::Response;

/// What the client gets for a refusal; the reason is for the log.
pub(super) fn refused(refusal: &Refusal, grpc: bool) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let phrase = status.canonical_reason().unwrap_or("refused");
    if grpc {
        let mut response = Response::empty(StatusCode::OK);
        let kind = HeaderValue::from_static("application/grpc");
        response.headers.insert(header::CONTENT_TYPE, kind);
        let code = HeaderValue::from(u16::from(refusal.grpc_status()));
        response.headers.insert("grpc-status", code);
        let message = HeaderValue::from_str(phrase).expect("a reason phrase is header text");
        response.headers.insert("grpc-message", message);
        return response;
    }
    let mut response = Response::empty(status);
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers.insert(header::CONTENT_TYPE, kind);
    response.body = Body::Full(Bytes::from_static(phrase.as_bytes()));
    response
}

/// An answer with these headers and no body.
pub(super) fn with_headers(status: StatusCode, headers: HeaderMap) -> Response {
    Response {
        headers,
        ..Response::empty(status)
    }
}
