//! The gRPC echo service, and the health service beside it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::server::{
    ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService,
};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::behaviour::Behaviour;
use super::http::Connection;
use super::{Process, received};
use crate::programs::grpc::{self, Message, Reply};
use crate::programs::health::{self, HealthCheckRequest, HealthCheckResponse, ServingStatus};

type Replies = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// Whether the request is a gRPC call.
pub(super) fn is_call(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a call.
pub(super) async fn answer(
    connection: &Connection,
    behaviour: &Behaviour,
    failure: Option<StatusCode>,
    request: Request<Incoming>,
) -> Response<tonic::body::Body> {
    if failure.is_some() {
        let code = behaviour
            .grpc_status
            .unwrap_or(tonic::Code::Unavailable as i32);
        return Status::new(code.into(), "the request asked for a failure").into_http();
    }
    let path = request.uri().path().to_owned();
    if path == health::CHECK {
        let service = Health(connection.process.clone());
        let mut grpc = Grpc::new(ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default());
        return grpc.unary(service, request).await;
    }
    let (parts, body) = request.into_parts();
    let about = received::about_request(&connection.process, connection.ends, &parts, None);
    let service = Echo {
        about: about.to_string().into(),
    };
    let request = Request::from_parts(parts, body);
    let mut grpc = Grpc::new(ProstCodec::<Reply, Message>::default());
    match path.as_str() {
        grpc::UNARY => grpc.unary(service, request).await,
        grpc::SERVER_STREAM => grpc.server_streaming(service, request).await,
        grpc::CLIENT_STREAM => grpc.client_streaming(service, request).await,
        grpc::BIDI => grpc.streaming(service, request).await,
        _ => {
            Status::unimplemented(format!("{path} is not a method of ambit.echo.Echo")).into_http()
        }
    }
}

/// The health service.
struct Health(Arc<Process>);

impl UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = Answer<HealthCheckResponse>;

    fn call(&mut self, request: tonic::Request<HealthCheckRequest>) -> Self::Future {
        let service = request.into_inner().service;
        let answer = match self.0.health.serves(&service) {
            Some(true) => Ok(ServingStatus::Serving),
            Some(false) => Ok(ServingStatus::NotServing),
            None => Err(Status::not_found(format!(
                "there is no service {service:?}"
            ))),
        };
        let answer = answer.map(|status| {
            tonic::Response::new(HealthCheckResponse {
                status: status.into(),
            })
        });
        Box::pin(async { answer })
    }
}

/// The service for one call.
#[derive(Clone)]
struct Echo {
    about: Arc<str>,
}

impl Echo {
    fn reply(&self, text: String, sequence: u64) -> Reply {
        let about = if sequence == 0 {
            self.about.to_string()
        } else {
            String::new()
        };
        Reply {
            text,
            sequence,
            about,
        }
    }
}

impl UnaryService<Message> for Echo {
    type Response = Reply;
    type Future = Answer<Reply>;

    fn call(&mut self, request: tonic::Request<Message>) -> Self::Future {
        let reply = self.reply(request.into_inner().text, 0);
        Box::pin(async { Ok(tonic::Response::new(reply)) })
    }
}

impl ServerStreamingService<Message> for Echo {
    type Response = Reply;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, request: tonic::Request<Message>) -> Self::Future {
        let echo = self.clone();
        let Message { text, repeat } = request.into_inner();
        let replies = (0..u64::from(repeat.max(1)))
            .map(move |sequence| Ok(echo.reply(text.clone(), sequence)));
        let replies: Replies = Box::pin(stream::iter(replies));
        Box::pin(async { Ok(tonic::Response::new(replies)) })
    }
}

impl ClientStreamingService<Message> for Echo {
    type Response = Reply;
    type Future = Answer<Reply>;

    fn call(&mut self, request: tonic::Request<Streaming<Message>>) -> Self::Future {
        let about = self.about.to_string();
        let mut messages = request.into_inner();
        Box::pin(async move {
            let mut texts = Vec::new();
            while let Some(message) = messages.message().await? {
                texts.push(message.text);
            }
            let sequence = texts.len() as u64;
            Ok(tonic::Response::new(Reply {
                text: texts.join(" "),
                sequence,
                about,
            }))
        })
    }
}

impl StreamingService<Message> for Echo {
    type Response = Reply;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, request: tonic::Request<Streaming<Message>>) -> Self::Future {
        let echo = self.clone();
        let messages = request.into_inner().enumerate();
        let replies: Replies = Box::pin(messages.map(move |(sequence, message)| {
            let text = message?.text;
            Ok(echo.reply(text, sequence as u64))
        }));
        Box::pin(async { Ok(tonic::Response::new(replies)) })
    }
}
