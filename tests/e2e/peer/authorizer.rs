//! An external authorizer: `envoy.service.auth.v3.Authorization/Check` on one port, the HTTP form on another.
//!
//! It lets in who says `x-let: in`, and tells the application whom it checked in `x-checked`: the identity where
//! it was told one, the path it was asked at otherwise. Everybody else gets its own answer.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};

use ambit_proto::ext_authz::authorization_server::{Authorization, AuthorizationServer};
use ambit_proto::ext_authz::check_response::HttpResponse;
use ambit_proto::ext_authz::{
    CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpStatus,
    OkHttpResponse, Status,
};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::Authorize;

/// PERMISSION_DENIED (google.rpc.Code).
const DENIED: i32 = 7;
const STATUS: u16 = 451;
const WHY: (&str, &str) = ("x-why", "not let in");
const BODY: &str = "ask again\n";

pub(super) async fn serve(options: &Authorize) -> anyhow::Result<()> {
    let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(any(options.http)).await?;
    let calls = TcpListener::bind(any(options.grpc)).await?;
    let grpc = AuthorizationServer::new(Checks);
    let grpc = Server::builder().serve_with_incoming(grpc, TcpIncoming::from(calls));
    tokio::select! {
        result = grpc => Ok(result?),
        result = serve_http(listener) => result,
    }
}

struct Checks;

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let caller = attributes.source.unwrap_or_default().principal;
        let http = attributes.request.and_then(|it| it.http);
        let http = http.ok_or_else(|| tonic::Status::invalid_argument("no request"))?;
        let let_in = http.headers.get("x-let").is_some_and(|it| it == "in");
        let header = |(key, value): (&str, &str)| HeaderValueOption {
            header: Some(HeaderValue {
                key: key.to_owned(),
                value: value.to_owned(),
                raw_value: Vec::new(),
            }),
            append: None,
        };
        let (code, answer) = match let_in {
            true => {
                let ok = OkHttpResponse {
                    headers: vec![header(("x-checked", &caller))],
                    headers_to_remove: vec!["x-let".to_owned()],
                    response_headers_to_add: vec![header(("x-checked-by", "grpc"))],
                };
                (0, HttpResponse::OkResponse(ok))
            }
            false => {
                let denied = DeniedHttpResponse {
                    status: Some(HttpStatus {
                        code: STATUS.into(),
                    }),
                    headers: vec![header(WHY)],
                    body: format!("{BODY}{}", http.body),
                };
                (DENIED, HttpResponse::DeniedResponse(denied))
            }
        };
        Ok(tonic::Response::new(CheckResponse {
            status: Some(Status {
                code,
                message: String::new(),
            }),
            http_response: Some(answer),
        }))
    }
}

async fn serve_http(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(check));
        // A connection that breaks is the proxy's to tell of.
        tokio::spawn(async move { drop(serving.await) });
    }
}

async fn check(request: http::Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let let_in = request
        .headers()
        .get("x-let")
        .is_some_and(|it| it.as_bytes() == b"in");
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await;
    let body = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let response = match let_in {
        true => Response::builder()
            .header("x-checked", path)
            .body(Full::default()),
        false => Response::builder()
            .status(STATUS)
            .header(WHY.0, WHY.1)
            .body(Full::from([BODY.as_bytes(), &body].concat())),
    };
    Ok(response.unwrap_or_default())
}
