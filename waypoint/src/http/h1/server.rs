//! One HTTP/1.1 connection of a client.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_http::h1::{
    self, Framing, RequestDecoder, RequestHead, encode_interim_head, encode_response_head,
};
use ambit_http::host::Host;
use ambit_http::path::{self, CanonicalPath};
use ambit_http::refusal::{Flag, Refusal};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::incoming::Incoming;
use super::send::{SendError, send, write};
use super::{READ, Raw, Reader, Writer};
use crate::http::body::{Body, Frame};
use crate::http::desk::{Desk, Note};
use crate::http::message::{Request, Response};
use crate::http::pipeline;
use crate::io::Io;
use crate::session::Session;
use crate::waiting::Waiting;

/// What a client still sends after the last response is read for this long, and this much of it, so that
/// the end of the connection does not overtake the response.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
/// A buffer that has grown beyond this is not kept between requests.
const KEPT: usize = 16 * 1024;

const VERSION: &str = "HTTP/1.1";

/// Serves requests one after another until the client leaves or one side wants the end. They are answered in
/// the order in which they come: the next head is read when the response before is complete.
pub(in super::super) async fn serve(session: Arc<Session>, io: Io, first: Bytes) {
    let (reader, writer) = crate::io::split(io);
    let mut connection = Connection {
        decoder: RequestDecoder::new(),
        reader: Some(Reader::new(reader, BytesMut::from(&first[..]))),
        spent: None,
        writer,
        out: BytesMut::new(),
        desk: Arc::default(),
        waiting: Waiting::new(&session.ending),
    };
    while connection.turn(&session).await.is_some() {}
}

struct Connection {
    decoder: RequestDecoder,
    /// Lent to the body of a request meanwhile.
    reader: Option<Reader>,
    /// The reader of a body that was given up: what comes next cannot be told.
    spent: Option<Reader>,
    writer: Writer,
    out: BytesMut,
    desk: Arc<Desk>,
    waiting: Waiting,
}

/// What happens while a request is answered.
enum Event {
    Answer(Response),
    Note(Note),
    /// The client's side of the connection broke.
    Gone,
}

impl Connection {
    /// One request and its response; `None` at the end of the connection.
    async fn turn(&mut self, session: &Arc<Session>) -> Option<()> {
        let Some(head) = self.head().await else {
            // Between two requests: an orderly end.
            return self.linger().await;
        };
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                let response = pipeline::refuse_head(session, &error.into(), VERSION);
                // The client's bytes cannot be trusted any more.
                self.respond(response, &Method::GET, false).await;
                return self.linger().await;
            }
        };
        let (method, mut keep_alive) = (head.method.clone(), head.keep_alive);
        let waits = head.expect_continue;
        let body = self.body(head.body, waits);
        let response = match request(head, body, &self.desk) {
            Ok(request) => {
                self.answer(pin!(pipeline::answer(session, request)), waits)
                    .await?
            }
            Err(refusal) => {
                // What follows may be meant for a tunnel, or for whoever reads the head differently.
                keep_alive = false;
                pipeline::refuse_head(session, &refusal, VERSION)
            }
        };
        if response.upgraded.is_some() {
            self.upgrade(response).await;
            return None;
        }
        keep_alive &= !session.ending.has_begun();
        let complete = self.respond(response, &method, keep_alive).await;
        self.returned();
        match &mut self.reader {
            Some(reader) if complete && keep_alive => reader.rest(),
            // A body that nobody read to its end leaves a connection of no more use.
            _ if complete => return self.linger().await,
            // What is incomplete must not look otherwise.
            _ => return None,
        }
        if self.out.capacity() > KEPT {
            self.out = BytesMut::new();
        }
        Some(())
    }

    /// The next head; `None` when there is none to wait for.
    async fn head(&mut self) -> Option<Result<RequestHead, h1::Error>> {
        let reader = self.reader.as_mut()?;
        self.waiting.begin();
        loop {
            match self.decoder.decode(&mut reader.buffer) {
                Ok(Some(head)) => return Some(Ok(head)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            if !reader.buffer.is_empty() {
                self.waiting.head_begins();
            }
            let waiting = &mut self.waiting;
            let read = poll_fn(|cx| match reader.poll_fill(cx, READ) {
                Poll::Pending => waiting.poll_over(cx).map(|()| None),
                read => read.map(Some),
            });
            match read.await? {
                Ok(0) => return self.decoder.eof(&reader.buffer).err().map(Err),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The body after a head. One that is there already costs nothing more.
    fn body(&mut self, framing: Framing, waits: bool) -> Body {
        let Some(mut reader) = self.reader.take() else {
            return Body::Empty;
        };
        match framing {
            Framing::None | Framing::Length(0) | Framing::UntilClose => {
                self.reader = Some(reader);
                Body::Empty
            }
            Framing::Length(length) if length <= reader.buffer.len() as u64 => {
                let bytes = reader.buffer.split_to(length as usize).freeze();
                self.reader = Some(reader);
                Body::Full(bytes)
            }
            framing => {
                let desk = self.desk.clone();
                Body::H1(Box::new(Incoming::request(reader, framing, desk, waits)))
            }
        }
    }

    /// The response; meanwhile the client gets what is due before it. `None` when the client is gone.
    async fn answer(
        &mut self,
        mut answer: Pin<&mut impl Future<Output = Response>>,
        mut waits: bool,
    ) -> Option<Response> {
        let mut ended = false;
        let mut answered = None;
        loop {
            let event = poll_fn(|cx| {
                if answered.is_none()
                    && let Poll::Ready(response) = answer.as_mut().poll(cx)
                {
                    answered = Some(response);
                    // Nobody needs more of the body.
                    waits = false;
                }
                // What was said before the response goes before it.
                if let Poll::Ready(note) = self.desk.poll(cx) {
                    return Poll::Ready(Event::Note(note));
                }
                if let Some(response) = answered.take() {
                    return Poll::Ready(Event::Answer(response));
                }
                self.poll_gone(cx, &mut ended).map(|()| Event::Gone)
            });
            match event.await {
                Event::Answer(response) => return Some(response),
                Event::Note(Note::Reader(reader, complete)) => self.take(reader, complete),
                Event::Note(Note::BodyWanted) if waits => {
                    waits = false;
                    self.interim(StatusCode::CONTINUE, &HeaderMap::new())
                        .await
                        .ok()?;
                }
                Event::Note(Note::BodyWanted) => {}
                Event::Note(Note::Interim(status, headers)) => {
                    self.interim(status, &headers).await.ok()?;
                }
                Event::Gone => return None,
            }
        }
    }

    /// Whether the connection has broken; a client that only sends no more still wants its answer. The first
    /// bytes of a request that follows are read, and no more of it.
    fn poll_gone(&mut self, cx: &mut Context<'_>, ended: &mut bool) -> Poll<()> {
        while let Some(reader) = &mut self.reader
            && reader.buffer.is_empty()
            && !*ended
        {
            match reader.poll_fill(cx, READ) {
                Poll::Ready(Ok(0)) => *ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    async fn interim(&mut self, status: StatusCode, headers: &HeaderMap) -> io::Result<()> {
        self.out.clear();
        encode_interim_head(&mut self.out, status, headers);
        write(&mut self.writer, &mut self.out).await?;
        self.writer.flush().await
    }

    /// Writes a response; whether all of it was.
    async fn respond(&mut self, response: Response, to: &Method, keep_alive: bool) -> bool {
        let Response {
            status,
            headers,
            mut body,
            record,
            ..
        } = response;
        let mut record = record;
        // The reader may have come back meanwhile; a body that was given up leaves it unusable.
        let usable = self.returned() || self.is_lent();
        let connection = match keep_alive && usable {
            true => h1::Connection::KeepAlive,
            false => h1::Connection::Close,
        };
        let framing = match body.framing() {
            Framing::UntilClose => Framing::Chunked,
            // A length in the map is that of the response to GET.
            Framing::None if *to == Method::HEAD || status == StatusCode::NOT_MODIFIED => {
                Framing::None
            }
            Framing::None => Framing::Length(0),
            framing => framing,
        };
        self.out.clear();
        let encoder =
            encode_response_head(&mut self.out, status, &headers, framing, to, connection);
        let Ok(encoder) = encoder else { return false };
        let passed = |frame: &Frame| {
            if let Some(record) = &mut record {
                record.piece(frame);
            }
        };
        let result = send(&mut self.writer, &mut self.out, encoder, &mut body, passed).await;
        let late = body.is_late();
        drop(body);
        let complete = result.is_ok();
        if let Some(record) = record {
            match result {
                _ if late => record.late(),
                Ok(()) => record.complete(),
                Err(SendError::Sink(_)) => {}
                Err(error) => record.broke(&error),
            }
        }
        complete
    }

    /// Takes the reader back if it can be used; whether it is here.
    fn returned(&mut self) -> bool {
        while let Some(note) = self.desk.next() {
            if let Note::Reader(reader, complete) = note {
                self.take(reader, complete);
            }
        }
        self.reader.is_some()
    }

    fn take(&mut self, reader: Reader, complete: bool) {
        match complete {
            true => self.reader = Some(reader),
            false => self.spent = Some(reader),
        }
    }

    /// Whether the body of the request is still being read.
    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.desk) > 1
    }

    /// The end of a connection whose client may still be sending.
    async fn linger(&mut self) -> Option<()> {
        let _ = self.writer.shutdown().await;
        let reader = self.reader.as_mut().or(self.spent.as_mut())?;
        let mut left = LINGER_BYTES;
        let reading = async {
            while left > 0 {
                reader.buffer.clear();
                match reader.fill(READ).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        let _ = timeout(LINGER, reading).await;
        None
    }

    /// 101, and then bytes both ways to the end.
    async fn upgrade(&mut self, response: Response) -> Option<()> {
        let Response {
            status,
            headers,
            upgraded,
            record,
            ..
        } = response;
        let record = record?;
        self.returned();
        let (backend, reader) = (*upgraded?, self.reader.take()?);
        let protocol: HeaderValue = headers.get(header::UPGRADE)?.clone();
        self.out.clear();
        let becomes = h1::Connection::Upgrade(&protocol);
        let get = Method::GET;
        let none = Framing::None;
        encode_response_head(&mut self.out, status, &headers, none, &get, becomes).ok()?;
        write(&mut self.writer, &mut self.out).await.ok()?;
        self.writer.flush().await.ok()?;
        // The connection is over with this: its writer is not needed here any more.
        let writer = std::mem::replace(&mut self.writer, Writer::gone());
        Raw { reader, writer }.carry(backend, record).await;
        None
    }
}

/// The canonical request of a head.
fn request(head: RequestHead, body: Body, desk: &Arc<Desk>) -> Result<Request, Refusal> {
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
    let host = Host::parse(head.host).map_err(|error| bad(&error))?;
    let target = head.target.into_path_and_query();
    let path = match &*target {
        "*" => CanonicalPath::asterisk(),
        _ => path::canonical(target).map_err(|error| bad(&error))?,
    };
    Ok(Request {
        method: head.method,
        path,
        host,
        headers: head.headers,
        body,
        upgrade: head.upgrade,
        version: VERSION,
        desk: desk.clone(),
    })
}
