//! gRPC probes: one call of the health service, over a connection that is there already.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::USER_AGENT;
use crate::programs::health::{CHECK, HealthCheckRequest, HealthCheckResponse, ServingStatus};

/// Asks whether `service` serves.
pub(super) async fn check(
    stream: TcpStream,
    server: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let channel = Endpoint::from_shared(format!("http://{server}"))
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|error| error.to_string())?
        .connect_with_connector(Established(Some(TokioIo::new(stream))))
        .await
        .map_err(|error| error.to_string())?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let asked = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answered = client.unary(asked, PathAndQuery::from_static(CHECK), codec);
    let answer = answered.await.map_err(|status| status.to_string())?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("service {service:?} is {other:?}")),
    }
}

/// Gives the one connection that is there.
struct Established(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Established {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let lost = || io::Error::new(io::ErrorKind::NotConnected, "the connection was lost");
        ready(self.0.take().ok_or_else(lost))
    }
}
