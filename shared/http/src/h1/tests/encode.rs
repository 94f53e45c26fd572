use bytes::{Buf, BufMut, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::super::{
    BodyEncoder, Connection, EncodeError, Frame, Framing, RequestLine, encode_interim_head,
    encode_request_head, encode_response_head,
};
use super::*;

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    fields.iter().map(field).collect()
}

/// What the map says of these is not sent.
const STALE: [(&str, &str); 6] = [
    ("connection", "x-secret"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("transfer-encoding", "gzip"),
    ("content-length", "7"),
    ("upgrade", "h2c"),
];

fn text(buf: &[u8]) -> String {
    String::from_utf8(buf.to_vec()).expect("ASCII")
}

#[test]
fn request_heads() {
    let upgrade = HeaderValue::from_static("websocket");
    let cases = [
        (
            "GET",
            Method::GET,
            "/a?b",
            Framing::None,
            Connection::KeepAlive,
            "",
        ),
        (
            "POST without a body",
            Method::POST,
            "/",
            Framing::None,
            Connection::KeepAlive,
            "content-length: 0\r\n",
        ),
        (
            "length",
            Method::GET,
            "/",
            Framing::Length(u64::MAX),
            Connection::KeepAlive,
            "content-length: 18446744073709551615\r\n",
        ),
        (
            "chunks",
            Method::PUT,
            "/",
            Framing::Chunked,
            Connection::Close,
            "connection: close\r\ntransfer-encoding: chunked\r\n",
        ),
        (
            "upgrade",
            Method::GET,
            "/",
            Framing::None,
            Connection::Upgrade(&upgrade),
            "connection: upgrade\r\nupgrade: websocket\r\n",
        ),
        (
            "asterisk",
            Method::OPTIONS,
            "*",
            Framing::None,
            Connection::KeepAlive,
            "",
        ),
        (
            "CONNECT",
            Method::CONNECT,
            "a:1",
            Framing::None,
            Connection::KeepAlive,
            "",
        ),
    ];
    let mut headers = map(&STALE);
    headers.insert("host", HeaderValue::from_static("other"));
    headers.append("x", HeaderValue::from_static("1"));
    headers.append("x", HeaderValue::from_static("2"));
    for (case, method, target, body, connection, ours) in cases {
        let mut out = BytesMut::new();
        let line = RequestLine {
            method: &method,
            target,
            host: "a",
        };
        encode_request_head(&mut out, &line, &headers, body, connection).expect(case);
        let expected =
            format!("{method} {target} HTTP/1.1\r\nhost: a\r\nx: 1\r\nx: 2\r\n{ours}\r\n");
        assert_eq!(text(&out), expected, "{case}");
        let read = request(&out).expect(case).expect(case);
        assert_eq!(read.method, method, "{case}");
        assert_eq!(read.body, body, "{case}");
    }
}

#[test]
fn what_would_end_a_line_is_never_sent() {
    for (case, target, host) in [
        ("CRLF in the target", "/\r\nx: y", "a"),
        ("a space in the target", "/ HTTP/1.1", "a"),
        ("NUL in the target", "/\0", "a"),
        ("DEL in the target", "/\x7f", "a"),
        ("no target", "", "a"),
        ("CRLF in the host", "/", "a\r\nx: y"),
        ("no host", "/", ""),
    ] {
        let mut out = BytesMut::new();
        let line = RequestLine {
            method: &Method::GET,
            target,
            host,
        };
        let sent = encode_request_head(
            &mut out,
            &line,
            &HeaderMap::new(),
            Framing::None,
            Connection::KeepAlive,
        );
        assert_eq!(sent.err(), Some(EncodeError::Target), "{case}");
        assert!(out.is_empty(), "{case}");
    }
}

#[test]
fn a_body_without_an_end_is_never_begun() {
    let mut out = BytesMut::new();
    let line = RequestLine {
        method: &Method::POST,
        target: "/",
        host: "a",
    };
    let sent = encode_request_head(
        &mut out,
        &line,
        &HeaderMap::new(),
        Framing::UntilClose,
        Connection::Close,
    );
    assert_eq!(sent.err(), Some(EncodeError::Unframed));
    let sent = encode_response_head(
        &mut out,
        StatusCode::OK,
        &HeaderMap::new(),
        Framing::UntilClose,
        &Method::GET,
        Connection::KeepAlive,
    );
    assert_eq!(sent.err(), Some(EncodeError::Unframed));
    assert!(out.is_empty());
}

#[test]
fn response_heads() {
    use Connection::{Close, KeepAlive};
    let (get, head, connect) = (Method::GET, Method::HEAD, Method::CONNECT);
    let cases = [
        (
            "length",
            200,
            &get,
            Framing::Length(10),
            KeepAlive,
            "HTTP/1.1 200 OK",
            "content-length: 10\r\n",
            "0123456789",
        ),
        (
            "none",
            200,
            &get,
            Framing::None,
            Close,
            "HTTP/1.1 200 OK",
            "connection: close\r\ncontent-length: 0\r\n",
            "",
        ),
        (
            "chunks",
            503,
            &get,
            Framing::Chunked,
            KeepAlive,
            "HTTP/1.1 503 Service Unavailable",
            "transfer-encoding: chunked\r\n",
            "a\r\n0123456789\r\n0\r\n\r\n",
        ),
        (
            "until close",
            200,
            &get,
            Framing::UntilClose,
            Close,
            "HTTP/1.1 200 OK",
            "connection: close\r\n",
            "0123456789",
        ),
        (
            "204",
            204,
            &get,
            Framing::None,
            KeepAlive,
            "HTTP/1.1 204 No Content",
            "",
            "",
        ),
        (
            "304",
            304,
            &get,
            Framing::None,
            KeepAlive,
            "HTTP/1.1 304 Not Modified",
            "content-length: 7\r\n",
            "",
        ),
        (
            "HEAD, as the backend said",
            200,
            &head,
            Framing::None,
            KeepAlive,
            "HTTP/1.1 200 OK",
            "content-length: 7\r\n",
            "",
        ),
        (
            "HEAD, a body of our own",
            200,
            &head,
            Framing::Length(10),
            KeepAlive,
            "HTTP/1.1 200 OK",
            "content-length: 10\r\n",
            "",
        ),
        (
            "CONNECT",
            200,
            &connect,
            Framing::None,
            KeepAlive,
            "HTTP/1.1 200 OK",
            "",
            "",
        ),
        (
            "CONNECT refused",
            405,
            &connect,
            Framing::Length(10),
            KeepAlive,
            "HTTP/1.1 405 Method Not Allowed",
            "content-length: 10\r\n",
            "0123456789",
        ),
        (
            "a status without a name",
            299,
            &get,
            Framing::None,
            KeepAlive,
            "HTTP/1.1 299 ",
            "content-length: 0\r\n",
            "",
        ),
    ];
    let mut headers = map(&STALE);
    headers.append("set-cookie", HeaderValue::from_static("a"));
    headers.append("set-cookie", HeaderValue::from_static("b"));
    for (case, status, to, framing, connection, line, ours, body) in cases {
        let status = StatusCode::from_u16(status).expect(case);
        let mut out = BytesMut::new();
        let encoder =
            encode_response_head(&mut out, status, &headers, framing, to, connection).expect(case);
        let data = if framing == Framing::None {
            ""
        } else {
            "0123456789"
        };
        out.put(encoder.last(data.into()).expect(case));
        let expected = format!("{line}\r\nset-cookie: a\r\nset-cookie: b\r\n{ours}\r\n{body}");
        assert_eq!(text(&out), expected, "{case}");
    }
    let mut out = BytesMut::new();
    encode_interim_head(&mut out, StatusCode::EARLY_HINTS, &map(&[("link", "x")]));
    assert_eq!(text(&out), "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
}

fn encoder(framing: Framing) -> BodyEncoder {
    BodyEncoder::new(framing)
}

fn bytes(mut frame: Frame) -> Bytes {
    frame.copy_to_bytes(frame.remaining())
}

#[test]
fn lengths_are_kept() {
    let mut body = encoder(Framing::Length(3));
    assert!(body.data("ab".into()).is_ok());
    assert_eq!(body.data("cd".into()).err(), Some(EncodeError::TooLong));
    assert_eq!(body.end(None).err(), Some(EncodeError::TooShort));
    assert_eq!(
        encoder(Framing::Length(3)).last("ab".into()).err(),
        Some(EncodeError::TooShort)
    );
    assert_eq!(
        bytes(encoder(Framing::Length(2)).last("ab".into()).expect("fits")),
        "ab"
    );
}

#[test]
fn chunks() {
    let mut body = encoder(Framing::Chunked);
    assert_eq!(
        bytes(body.data("ab".into()).expect("a chunk")),
        "2\r\nab\r\n"
    );
    assert_eq!(bytes(body.data("".into()).expect("nothing")), "");
    let big = Bytes::from(vec![b'x'; 0x1_0000]);
    let frame = bytes(body.data(big).expect("a chunk"));
    assert!(frame.starts_with(b"10000\r\nx") && frame.ends_with(b"x\r\n"));
    let trailers = map(&[("grpc-status", "0"), ("content-length", "3"), ("host", "x")]);
    let end = body.end(Some(&trailers)).expect("the end");
    assert_eq!(bytes(end), "0\r\ngrpc-status: 0\r\n\r\n");
    let last = |data: &'static str| {
        encoder(Framing::Chunked)
            .last(data.into())
            .expect("the end")
    };
    assert_eq!(bytes(last("ab")), "2\r\nab\r\n0\r\n\r\n");
    assert_eq!(bytes(last("")), "0\r\n\r\n");
}

#[test]
fn a_frame_is_written_in_any_steps_and_does_not_copy() {
    let data = Bytes::from(vec![b'x'; 20]);
    let frame = encoder(Framing::Chunked)
        .last(data.clone())
        .expect("a frame");
    let whole = bytes(frame.clone());
    for step in 1..=whole.len() {
        let mut frame = frame.clone();
        let mut written = Vec::new();
        while frame.has_remaining() {
            let some = frame.chunk().len().min(step);
            written.extend_from_slice(&frame.chunk()[..some]);
            frame.advance(some);
        }
        assert_eq!(written, whole, "{step}");
        let mut frame = frame_of(&data);
        frame.advance(step.min(frame.remaining()));
        assert_eq!(frame.remaining(), whole.len() - step, "{step}");
    }
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(frame.chunks_vectored(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), data.as_ptr());
    assert_eq!(frame.chunks_vectored(&mut slices[..1]), 1);
}

fn frame_of(data: &Bytes) -> Frame {
    encoder(Framing::Chunked)
        .last(data.clone())
        .expect("a frame")
}
