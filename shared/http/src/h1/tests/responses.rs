use http::{HeaderValue, StatusCode};

use super::super::{Fault, MAX_INTERIM};
use super::*;

#[test]
fn refused() {
    use Fault::*;
    let cases: &[(&str, &[u8], Fault)] = &[
        (
            "length and coding",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            LengthAndCoding,
        ),
        (
            "coding and length",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            LengthAndCoding,
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            SeveralLengths,
        ),
        (
            "a signed length",
            b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
            Length,
        ),
        (
            "another coding",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            Coding,
        ),
        (
            "a coding in HTTP/1.0",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            CodingOfOldVersion,
        ),
        (
            "an unasked 101",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            UnaskedSwitch,
        ),
        (
            "103 with a length",
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n",
            InterimBody,
        ),
        (
            "100 with chunks",
            b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
            InterimBody,
        ),
        (
            "injection: a bare CR",
            b"HTTP/1.1 200 OK\r\nX: 1\rSet-Cookie: a\r\n\r\n",
            HeaderValue,
        ),
        (
            "injection: a bare LF",
            b"HTTP/1.1 200 OK\r\nX: 1\nSet-Cookie: a\r\n\r\n",
            BareLineFeed,
        ),
        (
            "injection: NUL",
            b"HTTP/1.1 200 OK\r\nX: 1\0\r\n\r\n",
            HeaderValue,
        ),
        (
            "a folded header",
            b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
            HeaderName,
        ),
        (
            "a space before the colon",
            b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n",
            HeaderName,
        ),
        (
            "a bare CR in the reason",
            b"HTTP/1.1 200 O\rK\r\n\r\n",
            StatusLine,
        ),
        ("an empty line before", b"\r\nHTTP/1.1 200 OK\r\n\r\n", StatusLine),
        ("no HTTP", b"SSH-2.0-OpenSSH\r\n", StatusLine),
        ("HTTP/0.9", b"<html>", StatusLine),
        ("HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n", UnknownVersion),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n", StatusLine),
        ("a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n", StatusLine),
        ("status 099", b"HTTP/1.1 099 X\r\n\r\n", StatusLine),
        ("status 600", b"HTTP/1.1 600 X\r\n\r\n", StatusLine),
    ];
    for (case, text, fault) in cases {
        let error = response(text, &get()).expect_err(case);
        assert_eq!(
            (error.side, error.fault, error.status()),
            (Side::Upstream, *fault, 502),
            "{case}"
        );
    }
}

#[test]
fn limits() {
    let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(count));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(66_000));
    let endless = format!("HTTP/1.1 200 {}", "x".repeat(66_000));
    let cases = [
        ("100 headers", many(100), None),
        ("101 headers", many(101), Some(Fault::TooManyHeaders)),
        ("66 KB", long, Some(Fault::HeadTooLarge)),
        ("an endless status line", endless, Some(Fault::HeadTooLarge)),
    ];
    for (case, text, expected) in cases {
        let found = response(text.as_bytes(), &get()).err();
        assert_eq!(found.map(|error| error.fault), expected, "{case}");
    }
}

#[test]
fn what_follows() {
    use Framing::{Chunked, Length, UntilClose};
    use Next::{Body, Head, Tunnel};
    let none = Body(Framing::None);
    let connect = Asked::new(&Method::CONNECT, None);
    let head = Asked::new(&Method::HEAD, None);
    let offers = |what| Asked::new(&Method::GET, Some(HeaderValue::from_static(what)));
    let cases = [
        (
            "length",
            "200 OK\r\nContent-Length: 3",
            get(),
            Body(Length(3)),
            true,
        ),
        ("length 0", "200 OK\r\nContent-Length: 0", get(), none, true),
        (
            "chunks",
            "200 OK\r\nTransfer-Encoding: chunked",
            get(),
            Body(Chunked),
            true,
        ),
        (
            "to the end of the connection",
            "200 OK",
            get(),
            Body(UntilClose),
            false,
        ),
        ("no reason", "200\r\nContent-Length: 0", get(), none, true),
        (
            "a reason that is no ASCII",
            "200 \u{e4}\r\nContent-Length: 0",
            get(),
            none,
            true,
        ),
        (
            "a status nobody knows",
            "299 X\r\nContent-Length: 0",
            get(),
            none,
            true,
        ),
        (
            "close",
            "200 OK\r\nContent-Length: 3\r\nConnection: close",
            get(),
            Body(Length(3)),
            false,
        ),
        (
            "a response's Expect means nothing",
            "200 OK\r\nContent-Length: 0\r\nExpect: x",
            get(),
            none,
            true,
        ),
        ("100", "100 Continue", get(), Head, true),
        ("103", "103 Early Hints\r\nLink: x", get(), Head, true),
        ("204", "204 No Content", get(), none, true),
        (
            "204 with length 0",
            "204 No Content\r\nContent-Length: 0",
            get(),
            none,
            true,
        ),
        (
            "204 with a body announced",
            "204 No Content\r\nContent-Length: 3",
            get(),
            none,
            false,
        ),
        (
            "204 with chunks announced",
            "204 No Content\r\nTransfer-Encoding: chunked",
            get(),
            none,
            false,
        ),
        (
            "304 with a length",
            "304 Not Modified\r\nContent-Length: 3",
            get(),
            none,
            true,
        ),
        (
            "HEAD with a length",
            "200 OK\r\nContent-Length: 3",
            head.clone(),
            none,
            true,
        ),
        (
            "HEAD with chunks",
            "200 OK\r\nTransfer-Encoding: chunked",
            head.clone(),
            none,
            true,
        ),
        ("HEAD with nothing", "200 OK", head, none, true),
        ("CONNECT", "200 OK", connect.clone(), Tunnel, false),
        (
            "CONNECT with a length",
            "200 OK\r\nContent-Length: 3",
            connect.clone(),
            Tunnel,
            false,
        ),
        (
            "CONNECT refused",
            "407 No\r\nContent-Length: 3",
            connect,
            Body(Length(3)),
            true,
        ),
        (
            "101 as offered",
            "101 X\r\nConnection: upgrade\r\nUpgrade: WebSocket",
            offers("h2c, websocket"),
            Tunnel,
            false,
        ),
    ];
    for (case, text, asked, next, keep_alive) in cases {
        let text = format!("HTTP/1.1 {text}\r\n\r\n");
        let found = response(text.as_bytes(), &asked).expect(case).expect(case);
        assert_eq!((found.next, found.keep_alive), (next, keep_alive), "{case}");
    }
    for (case, text) in [
        ("another protocol", "Connection: upgrade\r\nUpgrade: h2c"),
        ("no protocol", "Connection: upgrade"),
        ("not in Connection", "Upgrade: websocket"),
    ] {
        let text = format!("HTTP/1.1 101 X\r\n{text}\r\n\r\n");
        let error = response(text.as_bytes(), &offers("websocket")).expect_err(case);
        assert_eq!(error.fault, Fault::UnaskedSwitch, "{case}");
    }
}

#[test]
fn http_1_0_is_read_to_its_length_or_the_end_and_then_closed() {
    for (case, text, framing) in [
        ("to the end", "HTTP/1.0 200 OK\r\n\r\n", Framing::UntilClose),
        (
            "a length",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
            Framing::Length(3),
        ),
    ] {
        let found = response(text.as_bytes(), &get()).expect(case).expect(case);
        assert_eq!(found.next, Next::Body(framing), "{case}");
        assert!(!found.keep_alive, "{case}");
    }
}

#[test]
fn a_flood_of_interim_responses_ends() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(MAX_INTERIM);
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut decoder = ResponseDecoder::new();
    let asked = get();
    // As many as may be, twice: the count starts anew with each request.
    for _ in 0..2 {
        let mut buf = BytesMut::from(format!("{interim}{last}").as_bytes());
        let mut heads = 0;
        while let Some(head) = decoder.decode(&mut buf, &asked).expect("within bounds") {
            heads += 1;
            assert_eq!(head.status == StatusCode::OK, heads == MAX_INTERIM + 1);
        }
        assert_eq!(heads, MAX_INTERIM + 1);
    }
    let mut buf = BytesMut::from(format!("{interim}HTTP/1.1 100 Continue\r\n\r\n").as_bytes());
    let error = loop {
        match decoder.decode(&mut buf, &asked) {
            Ok(head) => assert!(head.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.fault, Fault::TooManyInterim);
}
