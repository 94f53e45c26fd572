//! `envoy.service.auth.v3.Authorization/Check`: one message there, one back.

use std::net::SocketAddr;

use ambit_http::extauth::{Answer, Changes, Check, Reply};
use ambit_http::model::policy::Authorizer;
use ambit_http::path;
use ambit_proto::ext_authz::attribute_context::{HttpRequest, Peer, Request};
use ambit_proto::ext_authz::check_response::HttpResponse;
use ambit_proto::ext_authz::{
    Address, AttributeContext, CheckRequest, CheckResponse, HeaderValueOption, SocketAddress,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use prost::Message;

use super::values;
use crate::http::attempt::Outgoing;
use crate::http::body::{Body, Frame};
use crate::http::message::Response;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Flag and length before a message.
const PREFIX: usize = 5;

/// The question as a gRPC request.
pub(super) fn question(authorizer: &Authorizer, check: &Check<'_>) -> (Outgoing, Body) {
    let mut headers = HeaderMap::with_capacity(2);
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let outgoing = Outgoing {
        method: Method::POST,
        path: path::canonical(ByteString::from_static(METHOD)).expect("a canonical path"),
        host: match &authorizer.backend {
            ambit_http::model::route::BackendRef::Service { service, .. } => {
                (&*service.name).into()
            }
            ambit_http::model::route::BackendRef::Invalid { .. } => "authorizer".into(),
        },
        headers,
        upgrade: None,
        grpc: true,
        client: None,
        desk: None,
    };
    let message = message(authorizer, check);
    let mut body = BytesMut::with_capacity(PREFIX + message.encoded_len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    message.encode(&mut body).expect("the buffer grows");
    (outgoing, Body::Full(body.freeze()))
}

fn message(authorizer: &Authorizer, check: &Check<'_>) -> CheckRequest {
    let peer = |address: SocketAddr, principal: String| Peer {
        address: Some(Address {
            socket_address: Some(SocketAddress {
                address: address.ip().to_string(),
                port_value: address.port().into(),
            }),
        }),
        principal,
        ..Peer::default()
    };
    let seen: HeaderMap = check
        .headers_for(authorizer)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let principal = check.source.map(ToString::to_string).unwrap_or_default();
    let id = seen.get("x-request-id").and_then(|id| id.to_str().ok());
    let http = HttpRequest {
        id: id.unwrap_or_default().to_owned(),
        method: check.method.to_string(),
        headers: values(&seen).collect(),
        path: check.path.to_owned(),
        host: check.host.to_owned(),
        scheme: "http".to_owned(),
        size: match check.body.len() {
            0 => -1,
            size => i64::try_from(size).unwrap_or(i64::MAX),
        },
        protocol: "HTTP/1.1".to_owned(),
        // Text where it is text, as Envoy does without `pack_as_bytes`.
        body: String::from_utf8_lossy(&check.body).into_owned(),
        raw_body: Vec::new(),
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer(check.source_address, principal)),
            destination: Some(peer(check.destination, String::new())),
            request: Some(Request {
                time: None,
                http: Some(http),
            }),
            ..AttributeContext::default()
        }),
    }
}

/// What a response says.
///
/// # Errors
/// It says nothing that can be understood.
pub(super) async fn answer(response: Response, most: usize) -> Result<Answer, String> {
    if response.status != http::StatusCode::OK {
        return Err(format!("it answered with status {}", response.status));
    }
    let mut status = grpc_status(&response.headers);
    let mut body = response.body;
    let mut message = BytesMut::new();
    while let Some(frame) = body.next().await.map_err(|error| error.to_string())? {
        match frame {
            Frame::Data(data) if message.len() + data.len() > most => {
                return Err(format!("its answer is longer than {most} bytes"));
            }
            Frame::Data(data) => message.extend_from_slice(&data),
            Frame::Trailers(trailers) => status = grpc_status(&trailers).or(status),
        }
    }
    match status.as_deref() {
        Some("0") => {}
        Some(status) => return Err(format!("it answered with gRPC status {status}")),
        None => return Err("its answer has no gRPC status".to_owned()),
    }
    let mut message = message.freeze();
    if message.len() < PREFIX
        || message.get_u8() != 0
        || message.get_u32() as usize != message.len()
    {
        return Err("its answer is no single, plain message".to_owned());
    }
    let message = CheckResponse::decode(message).map_err(|error| error.to_string())?;
    understand(message)
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    let status = headers.get("grpc-status")?;
    status.to_str().ok().map(ToOwned::to_owned)
}

fn understand(message: CheckResponse) -> Result<Answer, String> {
    let status = message.status.ok_or("its answer has no status")?;
    match (status.code, message.http_response) {
        (0, Some(HttpResponse::DeniedResponse(_))) => {
            Err("its answer allows and denies at once".to_owned())
        }
        (0, None) => Ok(Answer::Ok(Changes::default())),
        (0, Some(HttpResponse::OkResponse(ok))) => {
            let mut changes = Changes {
                remove: ok
                    .headers_to_remove
                    .iter()
                    .map(|name| name.parse().map_err(|_| bad(name)))
                    .collect::<Result<_, _>>()?,
                ..Changes::default()
            };
            for option in &ok.headers {
                let (header, appends) = header(option)?;
                match appends {
                    true => changes.append.push(header),
                    false => changes.set.push(header),
                }
            }
            for option in &ok.response_headers_to_add {
                changes.response.push(header(option)?.0);
            }
            Ok(Answer::Ok(changes))
        }
        (_, Some(HttpResponse::DeniedResponse(denied))) => {
            let headers = denied.headers.iter().map(|it| Ok(header(it)?.0));
            let code = denied.status.map_or(403, |status| status.code);
            Ok(Answer::Denied(Reply {
                status: u16::try_from(code).unwrap_or(403),
                headers: headers.collect::<Result<_, String>>()?,
                body: denied.body.into(),
            }))
        }
        (_, _) => Ok(Answer::Denied(Reply {
            status: 403,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })),
    }
}

/// A header, and whether it is added to others of its name.
fn header(option: &HeaderValueOption) -> Result<((HeaderName, HeaderValue), bool), String> {
    let header = option.header.as_ref().ok_or("its answer has no header")?;
    let name: HeaderName = header.key.parse().map_err(|_| bad(&header.key))?;
    let value = match header.value.is_empty() {
        true => HeaderValue::from_bytes(&header.raw_value),
        false => HeaderValue::from_str(&header.value),
    };
    let value = value.map_err(|_| bad(&header.key))?;
    let appends = option.append.is_some_and(|append| append.value);
    Ok(((name, value), appends))
}

fn bad(name: &str) -> String {
    format!("its answer has a header {name:?} that is none")
}
