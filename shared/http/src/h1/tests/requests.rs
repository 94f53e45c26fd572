use super::super::{Fault, MAX_HEAD, MAX_HEADERS};
use super::*;

/// GET with these lines after the first; each is ended, and so is the head.
fn get_with(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

#[test]
fn refused() {
    use Fault::*;
    let cases: &[(&str, &[u8], Fault, u16)] = &[
        // Framing.
        (
            "length, then coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            LengthAndCoding,
            400,
        ),
        (
            "coding, then length",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            LengthAndCoding,
            400,
        ),
        (
            "a coding not known, and a length",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\n",
            LengthAndCoding,
            400,
        ),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            SeveralLengths,
            400,
        ),
        (
            "two equal lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\n",
            SeveralLengths,
            400,
        ),
        (
            "a list of lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            Length,
            400,
        ),
        (
            "a signed length",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            Length,
            400,
        ),
        (
            "a negative length",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
            Length,
            400,
        ),
        (
            "a hexadecimal length",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n",
            Length,
            400,
        ),
        (
            "no length in the length",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            Length,
            400,
        ),
        (
            "a length of 2^64",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
            Length,
            400,
        ),
        (
            "a length that overflows by its digits",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999999999\r\n\r\n",
            Length,
            400,
        ),
        (
            "a space before the colon of a coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "a vertical tab before a coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
            HeaderValue,
            400,
        ),
        (
            "a vertical tab after a coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n",
            HeaderValue,
            400,
        ),
        (
            "xchunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            Coding,
            501,
        ),
        (
            "gzip, chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Coding,
            501,
        ),
        (
            "chunked, chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            Coding,
            501,
        ),
        (
            "identity",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            Coding,
            501,
        ),
        (
            "an empty coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
            Coding,
            501,
        ),
        (
            "chunked twice",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            SeveralCodings,
            400,
        ),
        (
            "chunked, then another",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            SeveralCodings,
            400,
        ),
        (
            "CONNECT with a length",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\n",
            ConnectBody,
            400,
        ),
        (
            "CONNECT with chunks",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ConnectBody,
            400,
        ),
        // Lines and fields.
        (
            "a space in a header name",
            b"GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "a header without a name",
            b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "a header without a colon",
            b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "NUL in a name",
            b"GET / HTTP/1.1\r\nHost: a\r\nX\0Y: 1\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "NUL in a value",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n",
            HeaderValue,
            400,
        ),
        (
            "NUL in the target",
            b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "DEL in a value",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x7f2\r\n\r\n",
            HeaderValue,
            400,
        ),
        (
            "a folded header, space",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "a folded header, tab",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "a folded first header",
            b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            HeaderName,
            400,
        ),
        (
            "a bare CR in a value",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n",
            HeaderValue,
            400,
        ),
        (
            "a bare CR before a name",
            b"GET / HTTP/1.1\r\nHost: a\r\n\rX: 1\r\n\r\n",
            LineEnd,
            400,
        ),
        (
            "a line of the head ends with LF",
            b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
            BareLineFeed,
            400,
        ),
        (
            "the request line ends with LF",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            BareLineFeed,
            400,
        ),
        (
            "the empty line is LF",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            BareLineFeed,
            400,
        ),
        (
            "all lines end with LF",
            b"GET / HTTP/1.1\nHost: a\n\n",
            BareLineFeed,
            400,
        ),
        (
            "a space before the first line",
            b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            LeadingSpace,
            400,
        ),
        (
            "a tab before the first line",
            b"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            LeadingSpace,
            400,
        ),
        (
            "two empty lines before the first",
            b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            LeadingSpace,
            400,
        ),
        (
            "LF before the first line",
            b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            LeadingSpace,
            400,
        ),
        (
            "a space after an empty line",
            b"\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            LeadingSpace,
            400,
        ),
        // The request line.
        (
            "two spaces",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "a space in the target",
            b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "a tab for a space",
            b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "a space at the end",
            b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            LineEnd,
            400,
        ),
        (
            "a method that is no token",
            b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "no HTTP",
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "lower case version",
            b"GET / http/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "HTTP/1.0",
            b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            OldVersion,
            426,
        ),
        (
            "HTTP/1.0 without Host",
            b"GET / HTTP/1.0\r\n\r\n",
            OldVersion,
            426,
        ),
        (
            "HTTP/1.0 with chunks",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            OldVersion,
            426,
        ),
        (
            "HTTP/0.9 by name",
            b"GET / HTTP/0.9\r\n\r\n",
            OldVersion,
            426,
        ),
        ("HTTP/0.9", b"GET /\r\n", OldVersion, 426),
        (
            "HTTP/1.2",
            b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            UnknownVersion,
            505,
        ),
        (
            "the preface of HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            UnknownVersion,
            505,
        ),
        // Targets and hosts.
        ("no Host", b"GET / HTTP/1.1\r\nX: 1\r\n\r\n", NoHost, 400),
        (
            "no Host, absolute form",
            b"GET http://a/ HTTP/1.1\r\nX: 1\r\n\r\n",
            NoHost,
            400,
        ),
        (
            "two Hosts",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            SeveralHosts,
            400,
        ),
        (
            "two equal Hosts",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            SeveralHosts,
            400,
        ),
        (
            "a space in Host",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            Host,
            400,
        ),
        (
            "no ASCII in Host",
            b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n",
            Host,
            400,
        ),
        (
            "asterisk for GET",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "authority for GET",
            b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "a path for CONNECT",
            b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "a URL for CONNECT",
            b"CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "a relative path",
            b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "another scheme",
            b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "no host in a URL",
            b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "user information in a URL",
            b"GET http://x@secret.com/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Target,
            400,
        ),
        (
            "no UTF-8 in the target",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            RequestLine,
            400,
        ),
        (
            "another expectation",
            b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n",
            Expectation,
            417,
        ),
    ];
    for (case, text, fault, status) in cases {
        let error = request(text).expect_err(case);
        assert_eq!(
            (error.side, error.fault, error.status()),
            (Side::Client, *fault, *status),
            "{case}"
        );
    }
}

#[test]
fn limits() {
    let line = |size: usize| format!("X: {}\r\n", "x".repeat(size - 5));
    let padded = |size: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\n";
        format!("{start}{}\r\n", line(size - start.len() - 2)).into_bytes()
    };
    let many = |count: usize| get_with(&vec!["X: 1"; count - 1].join("\r\n"));
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD)).into_bytes();
    let cases = [
        ("a head as long as may be", padded(MAX_HEAD), Ok(2)),
        ("a head one byte longer", padded(MAX_HEAD + 1), Err(431)),
        (
            "more than a head, not yet complete",
            padded(MAX_HEAD * 2)[..MAX_HEAD].to_vec(),
            Err(431),
        ),
        (
            "as many headers as may be",
            many(MAX_HEADERS),
            Ok(MAX_HEADERS),
        ),
        ("one header more", many(MAX_HEADERS + 1), Err(431)),
        ("a request line that does not end", long, Err(414)),
    ];
    for (case, text, expected) in cases {
        let found = request(&text).map(|head| head.map_or(0, |head| head.headers.len()));
        assert_eq!(found.map_err(|error| error.status()), expected, "{case}");
    }
}

#[test]
fn accepted() {
    struct Case {
        name: &'static str,
        text: &'static str,
        host: &'static str,
        path: &'static str,
        body: Framing,
    }
    let cases = [
        Case {
            name: "origin form",
            text: "GET /a?b=c HTTP/1.1\r\nHost: A:80\r\n\r\n",
            host: "A:80",
            path: "/a?b=c",
            body: Framing::None,
        },
        Case {
            name: "one empty line before",
            text: "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            host: "a",
            path: "/",
            body: Framing::None,
        },
        Case {
            name: "absolute form: its host counts, not Host",
            text: "GET HTTP://b:8080/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
            host: "b:8080",
            path: "/x?y",
            body: Framing::None,
        },
        Case {
            name: "absolute form without a path",
            text: "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
            host: "b",
            path: "/",
            body: Framing::None,
        },
        Case {
            name: "absolute form with only a query",
            text: "GET https://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
            host: "b",
            path: "/?q",
            body: Framing::None,
        },
        Case {
            name: "absolute form of OPTIONS *",
            text: "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
            host: "b",
            path: "*",
            body: Framing::None,
        },
        Case {
            name: "asterisk form",
            text: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            host: "a",
            path: "*",
            body: Framing::None,
        },
        Case {
            name: "authority form",
            text: "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
            host: "b:443",
            path: "",
            body: Framing::None,
        },
        Case {
            name: "an empty Host is left to who judges hosts",
            text: "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            host: "",
            path: "/",
            body: Framing::None,
        },
        Case {
            name: "length",
            text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
            host: "a",
            path: "/",
            body: Framing::Length(u64::MAX),
        },
        Case {
            name: "length 0",
            text: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            host: "a",
            path: "/",
            body: Framing::None,
        },
        Case {
            name: "chunks, in any case, with space around",
            text: "POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-encoding: \t Chunked \t\r\n\r\n",
            host: "a",
            path: "/",
            body: Framing::Chunked,
        },
    ];
    for case in cases {
        let head = request(case.text.as_bytes()).expect(case.name);
        let head = head.expect(case.name);
        assert_eq!(head.host, case.host, "{}", case.name);
        assert_eq!(
            &*head.target.into_path_and_query(),
            case.path,
            "{}",
            case.name
        );
        assert_eq!(head.body, case.body, "{}", case.name);
    }
}

#[test]
fn connection_expect_and_upgrade() {
    let cases = [
        ("nothing said", "X: 1", true, false, None),
        ("close", "Connection: close", false, false, None),
        (
            "close in a list",
            "Connection: x-y, CLOSE",
            false,
            false,
            None,
        ),
        (
            "close on a second line",
            "Connection: x\r\nConnection: close",
            false,
            false,
            None,
        ),
        ("keep-alive", "Connection: keep-alive", true, false, None),
        (
            "closed is not close",
            "Connection: closed",
            true,
            false,
            None,
        ),
        ("expect", "Expect: 100-Continue", true, true, None),
        (
            "upgrade",
            "Connection: Upgrade\r\nUpgrade: websocket",
            true,
            false,
            Some("websocket"),
        ),
        (
            "upgrade, the other way round",
            "Upgrade: websocket\r\nConnection: keep-alive, upgrade",
            true,
            false,
            Some("websocket"),
        ),
        (
            "upgrade that Connection does not name",
            "Upgrade: websocket",
            true,
            false,
            None,
        ),
    ];
    for (case, lines, keep_alive, expect, upgrade) in cases {
        let head = request(&get_with(lines)).expect(case).expect(case);
        assert_eq!(head.keep_alive, keep_alive, "{case}");
        assert_eq!(head.expect_continue, expect, "{case}");
        assert_eq!(
            head.upgrade.as_ref().map(|it| it.as_bytes()),
            upgrade.map(str::as_bytes),
            "{case}"
        );
    }
}

#[test]
fn nothing_is_taken_before_a_head_is_complete() {
    let text = get_with("X: 1");
    let mut decoder = RequestDecoder::new();
    let mut buf = BytesMut::new();
    for byte in &text[..text.len() - 1] {
        buf.extend_from_slice(&[*byte]);
        assert!(decoder.decode(&mut buf).expect("a request").is_none());
    }
    assert_eq!(buf.len(), text.len() - 1);
    assert!(decoder.eof(&buf).is_err());
    buf.extend_from_slice(b"\nrest");
    assert!(decoder.decode(&mut buf).expect("a request").is_some());
    assert_eq!(buf, "rest");
    assert!(decoder.eof(b"").is_ok());
}

#[test]
fn values_are_slices_of_the_buffer() {
    let mut buf = BytesMut::from(&get_with("X: some value")[..]);
    let range = buf.as_ptr_range();
    let head = RequestDecoder::new().decode(&mut buf).expect("a request");
    let head = head.expect("complete");
    for value in head.headers.values() {
        assert!(range.contains(&value.as_bytes().as_ptr()));
    }
    assert!(range.contains(&head.target.into_path_and_query().as_ptr()));
}
