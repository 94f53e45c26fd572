//! One HTTP/1.1 connection of a client.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ambit_http::h1::{
    self, BodyEncoder, Framing, RequestDecoder, RequestHead, encode_interim_head,
    encode_response_head,
};
use ambit_http::host::Host;
use ambit_http::path::{self, CanonicalPath};
use ambit_http::refusal::{Flag, Refusal};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::incoming::{Incoming, fresh};
use super::{READ, Raw, Reader, Writer, tunnel, write};
use crate::http::body::{Body, Frame};
use crate::http::message::{Request, Response};
use crate::http::pipeline;
use crate::io::Io;
use crate::session::Session;

/// A client may be silent this long between requests, and take this long for a head.
const IDLE: Duration = Duration::from_secs(3600);
const HEAD: Duration = Duration::from_secs(60);
/// A body this short goes out with its head.
const TOGETHER: usize = 16 * 1024;

/// Serves requests one after another until the client leaves or one side wants the end.
pub(in super::super) async fn serve(session: Arc<Session>, io: Io, first: Bytes) {
    let (reader, writer) = tokio::io::split(io);
    let mut connection = Connection {
        session,
        decoder: RequestDecoder::new(),
        writer,
        out: BytesMut::new(),
    };
    let mut reader = Reader::new(reader, BytesMut::from(&first[..]));
    while let Some(next) = connection.turn(reader).await {
        reader = next;
    }
}

struct Connection {
    session: Arc<Session>,
    decoder: RequestDecoder,
    writer: Writer,
    out: BytesMut,
}

impl Connection {
    /// One request and its response; gives the reader back when another may follow.
    async fn turn(&mut self, mut reader: Reader) -> Option<Reader> {
        let head = match self.head(&mut reader).await? {
            Ok(head) => head,
            Err(error) => {
                let refusal = error.into();
                let response = pipeline::refuse_head(&self.session, &refusal, "HTTP/1.1");
                // The client's bytes cannot be trusted any more.
                let _ = self.respond(response, &Method::GET, false).await;
                let _ = self.writer.shutdown().await;
                return None;
            }
        };
        let method = head.method.clone();
        let keep_alive = head.keep_alive;
        let (wanted, wants) = oneshot::channel();
        let (back, returned) = oneshot::channel();
        let upgrade = head.upgrade.clone();
        let body = match head.body {
            Framing::None | Framing::Length(0) if upgrade.is_none() => {
                // Nobody is on the other end only when this connection is over.
                let _ = back.send(reader);
                Body::Empty
            }
            framing => {
                let wanted = head.expect_continue.then_some(wanted);
                let give_back = move |reader, _| {
                    let _ = back.send(reader);
                };
                let mut incoming = Incoming::request(reader, framing, wanted, give_back);
                if matches!(framing, Framing::None | Framing::Length(0)) {
                    // An upgrade: the reader is wanted back at once.
                    let _ = incoming.next().await;
                    Body::Empty
                } else {
                    Body::H1(Box::new(incoming))
                }
            }
        };
        let response = match request(head, body) {
            Ok(request) => {
                let session = self.session.clone();
                let answer = async move { pipeline::answer(&session, request).await };
                self.answered(answer, wants).await?
            }
            Err(refusal) => pipeline::refuse_head(&self.session, &refusal, "HTTP/1.1"),
        };
        let mut returned = returned;
        if let Some(upstream) = response.upgraded {
            let reader = returned.try_recv().ok()?;
            return self
                .upgrade(reader, *upstream, response.status, &response.headers)
                .await;
        }
        let complete = self.respond(response, &method, keep_alive).await;
        if !(complete && keep_alive) {
            let _ = self.writer.shutdown().await;
            return None;
        }
        // A response that came before the end of its request leaves a connection of no more use.
        let mut reader = returned.try_recv().ok()?;
        fresh(&mut reader.buffer);
        Some(reader)
    }

    async fn head(&mut self, reader: &mut Reader) -> Option<Result<RequestHead, h1::Error>> {
        let mut patience = IDLE;
        loop {
            match self.decoder.decode(&mut reader.buffer) {
                Ok(Some(head)) => return Some(Ok(head)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            if !reader.buffer.is_empty() {
                patience = HEAD;
            }
            match timeout(patience, reader.fill(READ)).await {
                Ok(Ok(true)) => {}
                _ => return None,
            }
        }
    }

    /// The response; meanwhile a client that waits for 100 gets it once its body is wanted.
    async fn answered(
        &mut self,
        answer: impl Future<Output = Response>,
        mut wants: oneshot::Receiver<()>,
    ) -> Option<Response> {
        tokio::pin!(answer);
        tokio::select! {
            biased;
            response = &mut answer => return Some(response),
            Ok(()) = &mut wants => {}
        }
        self.out.clear();
        encode_interim_head(&mut self.out, StatusCode::CONTINUE, &HeaderMap::new());
        write(&mut self.writer, self.out.split()).await.ok()?;
        self.writer.flush().await.ok()?;
        Some(answer.await)
    }

    /// Writes a response; whether all of it was.
    async fn respond(&mut self, response: Response, to: &Method, keep_alive: bool) -> bool {
        let Response {
            status,
            headers,
            mut body,
            ..
        } = response;
        let connection = match keep_alive {
            true => h1::Connection::KeepAlive,
            false => h1::Connection::Close,
        };
        let framing = match body.framing() {
            Framing::UntilClose => Framing::Chunked,
            Framing::None => Framing::Length(0),
            framing => framing,
        };
        self.out.clear();
        let encoder =
            encode_response_head(&mut self.out, status, &headers, framing, to, connection);
        let Ok(encoder) = encoder else { return false };
        self.send(encoder, &mut body).await.is_some() && self.writer.flush().await.is_ok()
    }

    /// Head and body. Without an answer the connection breaks off, and the client sees it.
    async fn send(&mut self, mut encoder: BodyEncoder, body: &mut Body) -> Option<()> {
        let mut head = Some(self.out.split());
        loop {
            let frame = match body.next().await {
                Ok(frame) => frame,
                Err(error) => {
                    tracing::debug!(%error, "a response is incomplete");
                    if let Some(head) = head {
                        write(&mut self.writer, head).await.ok()?;
                    }
                    return None;
                }
            };
            let (bytes, last) = match frame {
                Some(Frame::Data(data)) => (encoder.data(data).ok()?, false),
                Some(Frame::Trailers(trailers)) => {
                    let end = std::mem::replace(&mut encoder, BodyEncoder::nothing());
                    (end.end(Some(&trailers)).ok()?, true)
                }
                None => {
                    let end = std::mem::replace(&mut encoder, BodyEncoder::nothing());
                    (end.end(None).ok()?, true)
                }
            };
            match head.take() {
                Some(mut head) if bytes.remaining() <= TOGETHER => {
                    head.put(bytes);
                    write(&mut self.writer, head).await.ok()?;
                }
                Some(head) => write(&mut self.writer, head.chain(bytes)).await.ok()?,
                None => write(&mut self.writer, bytes).await.ok()?,
            }
            if last {
                return Some(());
            }
            self.writer.flush().await.ok()?;
        }
    }

    /// 101, and then bytes both ways to the end.
    async fn upgrade(
        &mut self,
        reader: Reader,
        upstream: Raw,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Reader> {
        let protocol = headers.get(http::header::UPGRADE)?.clone();
        self.out.clear();
        encode_response_head(
            &mut self.out,
            status,
            headers,
            Framing::None,
            &Method::GET,
            h1::Connection::Upgrade(&protocol),
        )
        .ok()?;
        write(&mut self.writer, self.out.split()).await.ok()?;
        self.writer.flush().await.ok()?;
        // The halves of this connection are wanted whole.
        let Self { writer, .. } = self;
        let (placeholder_reader, placeholder) = tokio::io::split(Io::closed());
        drop(placeholder_reader);
        let writer = std::mem::replace(writer, placeholder);
        tunnel(Raw { reader, writer }, upstream).await;
        None
    }
}

/// The canonical request of a head.
fn request(head: RequestHead, body: Body) -> Result<Request, Refusal> {
    let bad = |error: &dyn std::fmt::Display| {
        Refusal::new(400, Flag::DownstreamProtocolError, error.to_string())
    };
    if head.method == Method::CONNECT {
        return Err(Refusal::new(
            405,
            Flag::DownstreamProtocolError,
            "CONNECT inside the tunnel",
        ));
    }
    let host = Host::parse(head.host()).map_err(|error| bad(&error))?;
    let path = match head.target.path_and_query() {
        "*" => CanonicalPath::asterisk(),
        raw => path::canonical(&Bytes::copy_from_slice(raw.as_bytes())).map_err(|e| bad(&e))?,
    };
    Ok(Request {
        method: head.method,
        path,
        host,
        headers: head.headers,
        body,
        upgrade: head.upgrade,
        version: "HTTP/1.1",
    })
}
