//! gRPC calls of the echo service, with an ordinary gRPC client.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::engine::{self, Connection, Dial};
use super::failure::{Failure, Stage};
use super::options::{Grpc, GrpcMethod};
use super::report::Report;
use super::target;
use crate::programs::grpc::{self, Message, Reply};

const TEXT: &str = "ping";

pub(super) fn run(arguments: &Grpc) -> anyhow::Result<Report> {
    let resolved = target::resolve(
        arguments.url.address(),
        arguments.family,
        arguments.issue.timeout,
    )?;
    let [address, ..] = resolved.addresses() else {
        anyhow::bail!("{} has no address", arguments.url.address());
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .origin(arguments.url.uri().clone())
        .connect_timeout(arguments.issue.timeout);
    let about = Arc::new(OnceLock::new());
    let headers = HeaderMap::from_iter(arguments.headers.iter().cloned());
    let connections = arguments.issue.connections;
    let dialer = || Dialer {
        endpoint: endpoint.clone(),
        method: arguments.method,
        messages: arguments.messages.max(1),
        headers: headers.clone(),
        about: about.clone(),
    };
    let (elapsed, totals) = engine::run(&arguments.issue, connections as usize, dialer)?;
    let mut report = Report::of_requests("grpc", arguments.url.uri().to_string(), elapsed, totals);
    report.connections = Some(connections);
    report.about = about
        .get()
        .and_then(|about: &String| serde_json::from_str(about).ok());
    Ok(report)
}

struct Dialer {
    endpoint: Endpoint,
    method: GrpcMethod,
    messages: u32,
    headers: HeaderMap,
    about: Arc<OnceLock<String>>,
}

impl Dial for Dialer {
    type Connection = Caller;

    async fn dial(&self, _: usize) -> Result<Caller, Failure> {
        let channel = self.endpoint.connect().await;
        let channel = channel.map_err(|error| Failure::caused_by(Stage::Connect, &error))?;
        Ok(Caller {
            client: tonic::client::Grpc::new(channel),
            method: self.method,
            messages: self.messages,
            headers: self.headers.clone(),
            about: self.about.clone(),
        })
    }
}

/// A connection, and the call that is made on it.
struct Caller {
    client: tonic::client::Grpc<Channel>,
    method: GrpcMethod,
    messages: u32,
    headers: HeaderMap,
    /// What the server said of the first call.
    about: Arc<OnceLock<String>>,
}

impl Connection for Caller {
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let mut called = self.call().await?;
        if called.as_ref().is_err_and(is_unsent) {
            called = self.call().await?;
        }
        let received = called.map_err(|status| {
            let code = status.code();
            let detail = format!("{code:?}: {}", status.message());
            Failure {
                kind: format!("grpc status {}", code as i32).into(),
                detail,
            }
        })??;
        Ok(received)
    }

    async fn close(self) {}
}

/// A call ends with a status, and its replies can still be wrong.
type Called = Result<Result<u64, Failure>, Status>;

/// Whether a call was not sent, as its server had just ended the connection. gRPC has it made again (its "transparent
/// retries"), which this client leaves to us.
fn is_unsent(status: &Status) -> bool {
    let mut causes = std::iter::successors(status.source(), |&error| error.source());
    causes.any(|error| error.downcast_ref().is_some_and(hyper::Error::is_canceled))
}

impl Caller {
    async fn call(&mut self) -> Result<Called, Failure> {
        let ready = self.client.ready().await;
        ready.map_err(|error| Failure::caused_by(Stage::Send, &error))?;
        Ok(match self.method {
            GrpcMethod::Unary => self.unary().await,
            GrpcMethod::ServerStream => self.server_stream().await,
            GrpcMethod::ClientStream => self.client_stream().await,
            GrpcMethod::Bidi => self.bidi().await,
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let headers = MetadataMap::from_headers(self.headers.clone());
        Request::from_parts(headers, Default::default(), message)
    }

    fn message(&self) -> Message {
        Message {
            text: TEXT.to_owned(),
            repeat: self.messages,
        }
    }

    async fn unary(&mut self) -> Called {
        let request = self.request(self.message());
        let path = PathAndQuery::from_static(grpc::UNARY);
        let reply = self.client.unary(request, path, codec()).await?;
        Ok(self.check(&reply.into_inner(), TEXT, 0))
    }

    async fn server_stream(&mut self) -> Called {
        let request = self.request(self.message());
        let path = PathAndQuery::from_static(grpc::SERVER_STREAM);
        let mut replies = self
            .client
            .server_streaming(request, path, codec())
            .await?
            .into_inner();
        let mut count = 0;
        while let Some(reply) = replies.message().await? {
            if let Err(failure) = self.check(&reply, TEXT, count) {
                return Ok(Err(failure));
            }
            count += 1;
        }
        Ok(self.check_count(count))
    }

    async fn client_stream(&mut self) -> Called {
        let messages = vec![self.message(); self.messages as usize];
        let text = vec![TEXT; self.messages as usize].join(" ");
        let request = self.request(stream::iter(messages));
        let path = PathAndQuery::from_static(grpc::CLIENT_STREAM);
        let reply = self
            .client
            .client_streaming(request, path, codec())
            .await?
            .into_inner();
        Ok(self.check(&reply, &text, u64::from(self.messages)))
    }

    async fn bidi(&mut self) -> Called {
        let (sender, messages) = mpsc::channel(1);
        let request = self.request(ReceiverStream::new(messages).boxed());
        let path = PathAndQuery::from_static(grpc::BIDI);
        let mut replies = self
            .client
            .streaming(request, path, codec())
            .await?
            .into_inner();
        for sequence in 0..u64::from(self.messages) {
            // When the call has ended, the replies say why.
            let _ = sender.send(self.message()).await;
            match replies.message().await? {
                Some(reply) => match self.check(&reply, TEXT, sequence) {
                    Ok(_) => {}
                    Err(failure) => return Ok(Err(failure)),
                },
                None => return Ok(self.check_count(sequence)),
            }
        }
        drop(sender);
        match replies.message().await? {
            Some(_) => Ok(Err(Failure::corrupted("a reply that nothing was sent for"))),
            None => Ok(self.check_count(u64::from(self.messages))),
        }
    }

    fn check(&self, reply: &Reply, text: &str, sequence: u64) -> Result<u64, Failure> {
        if reply.text != text || reply.sequence != sequence {
            let detail = format!(
                "reply {} {:?} instead of {sequence} {text:?}",
                reply.sequence, reply.text
            );
            return Err(Failure::corrupted(detail));
        }
        if !reply.about.is_empty() {
            self.about.get_or_init(|| reply.about.clone());
        }
        Ok(text.len() as u64)
    }

    fn check_count(&self, count: u64) -> Result<u64, Failure> {
        if count == u64::from(self.messages) {
            Ok(count * TEXT.len() as u64)
        } else {
            Err(Failure::corrupted(format!(
                "{count} replies instead of {}",
                self.messages
            )))
        }
    }
}

fn codec() -> ProstCodec<Message, Reply> {
    ProstCodec::default()
}
