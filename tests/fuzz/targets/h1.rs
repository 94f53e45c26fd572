//! HTTP/1.1 means the same however its bytes arrive, and what was read is what the next reader of it reads.
//!
//! Bytes that begin with `HTTP/` are responses to GET, all others requests.
#![no_main]

use ambit_http::h1::{
    Asked, BodyDecoder, Connection, Framing, MAX_HEADERS, Next, Piece, RequestDecoder, RequestHead,
    RequestLine, ResponseDecoder, Side, encode_request_head,
};
use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, std::iter::repeat(bytes.len()));
    assert_eq!(whole, read(bytes, std::iter::repeat(1)), "byte by byte");
    // Sizes that the input itself chooses.
    let sizes = bytes
        .iter()
        .rev()
        .cycle()
        .map(|byte| usize::from(*byte) % 61 + 1);
    assert_eq!(whole, read(bytes, sizes), "in pieces");
});

#[derive(Debug, PartialEq)]
enum Event {
    Head(String),
    Data(Vec<u8>),
    End(Option<HeaderMap>),
    /// No HTTP any more.
    Tunnel,
    Fault(String),
}

struct Reader {
    requests: RequestDecoder,
    responses: Option<ResponseDecoder>,
    asked: Asked,
    body: Option<BodyDecoder>,
    events: Vec<Event>,
}

fn read(mut bytes: &[u8], mut sizes: impl Iterator<Item = usize>) -> Vec<Event> {
    let mut reader = Reader {
        requests: RequestDecoder::new(),
        responses: bytes.starts_with(b"HTTP/").then(ResponseDecoder::new),
        asked: Asked::new(&Method::GET, None),
        body: None,
        events: Vec::new(),
    };
    let mut buf = BytesMut::new();
    while !bytes.is_empty() {
        let (front, rest) = bytes.split_at(sizes.next().unwrap_or(1).clamp(1, bytes.len()));
        bytes = rest;
        buf.extend_from_slice(front);
        while let Some(more) = reader.step(&mut buf) {
            if !more {
                return reader.events;
            }
        }
    }
    reader.end(&buf);
    reader.events
}

impl Reader {
    /// Takes one thing; `None` when more bytes are needed, `false` when nothing more is read.
    fn step(&mut self, buf: &mut BytesMut) -> Option<bool> {
        let result = match (&mut self.body, &mut self.responses) {
            (Some(body), _) => body.decode(buf).map(|piece| piece.map(|it| self.piece(it))),
            (None, Some(responses)) => {
                let head = responses.decode(buf, &self.asked);
                head.map(|head| {
                    head.map(|head| {
                        let text =
                            format!("{} {:?} {}", head.status, head.headers, head.keep_alive);
                        self.events.push(Event::Head(text));
                        self.follow(head.next, Side::Upstream)
                    })
                })
            }
            (None, None) => self
                .requests
                .decode(buf)
                .map(|head| head.map(|it| self.request(&it))),
        };
        result.unwrap_or_else(|error| {
            self.events.push(Event::Fault(format!("{error:?}")));
            Some(false)
        })
    }

    fn request(&mut self, head: &RequestHead) -> bool {
        self.events.push(Event::Head(format!("{head:?}")));
        sent_as_read(head);
        match head.method {
            Method::CONNECT => self.follow(Next::Tunnel, Side::Client),
            _ => self.follow(Next::Body(head.body), Side::Client),
        }
    }

    fn follow(&mut self, next: Next, side: Side) -> bool {
        match next {
            Next::Head => {}
            Next::Body(framing) => self.body = Some(BodyDecoder::new(framing, side)),
            Next::Tunnel => self.events.push(Event::Tunnel),
        }
        next != Next::Tunnel
    }

    fn piece(&mut self, piece: Piece) -> bool {
        match (piece, self.events.last_mut()) {
            (Piece::Data(data), Some(Event::Data(known))) => known.extend(data),
            (Piece::Data(data), _) => self.events.push(Event::Data(data.into())),
            (Piece::End(trailers), _) => {
                self.body = None;
                self.events.push(Event::End(trailers));
            }
        }
        true
    }

    fn end(&mut self, rest: &[u8]) {
        let result = match &mut self.body {
            Some(body) => body.eof(),
            None => self.requests.eof(rest),
        };
        if let Err(error) = result {
            self.events.push(Event::Fault(format!("{error:?}")));
        }
    }
}

/// Method, target, host, framing and all other fields of a request survive being written.
fn sent_as_read(head: &RequestHead) {
    let target = match head.target.authority() {
        Some(authority) if head.method == Method::CONNECT => authority.clone(),
        _ => head.target.clone().into_path_and_query(),
    };
    let line = RequestLine {
        method: &head.method,
        target: &target,
        host: &head.host,
    };
    let mut out = BytesMut::new();
    let written = encode_request_head(
        &mut out,
        &line,
        &head.headers,
        head.body,
        Connection::KeepAlive,
    );
    // The encoder may have added one field to as many as are accepted.
    if written.is_err() || head.headers.len() >= MAX_HEADERS {
        return;
    }
    let again = RequestDecoder::new()
        .decode(&mut out)
        .expect("it is HTTP")
        .expect("all of it");
    assert!(out.is_empty(), "a second message");
    assert_eq!((&again.method, &again.host), (&head.method, &head.host));
    assert_eq!(again.body, head.body);
    if head.method != Method::CONNECT {
        assert_eq!(again.target.clone().into_path_and_query(), target);
    }
    for ours in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!again.headers.contains_key(ours), "{again:?}");
    }
    let framed = again.headers.contains_key(TRANSFER_ENCODING);
    assert_eq!(framed, head.body == Framing::Chunked);
    for name in head.headers.keys().filter(|name| {
        ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
            && !["connection", "keep-alive", "proxy-connection", "upgrade"].contains(&name.as_str())
    }) {
        assert!(
            head.headers
                .get_all(name)
                .iter()
                .eq(again.headers.get_all(name)),
            "{name}"
        );
    }
}
