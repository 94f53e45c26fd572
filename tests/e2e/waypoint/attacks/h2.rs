//! HTTP/2 heads and bodies that no honest client sends: the stream ends and those beside it go on.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, HEADERS, Outcome, SETTINGS, WINDOW, block,
    frame, good, headers, hello, request,
};
use super::scene::{Neighbours, scene};

/// What is wanted of a row.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// The stream is reset, those beside it go on.
    Reset,
    /// The same with one of these statuses.
    Status(&'static [u16]),
    /// What breaks the compression's state or the framing ends the inner connection, and that alone.
    Inner,
}

use Want::{Inner, Reset, Status};

fn heads() -> Vec<(&'static str, Vec<Field<'static>>, Want)> {
    let with = |field: Field<'static>| request("/refused", &[field]);
    let instead = |name: &str, value: &'static str| {
        let fields = request("/refused", &[]).into_iter();
        fields
            .map(|(known, old)| (known, if known == name { value } else { old }))
            .collect::<Vec<_>>()
    };
    let without = |name: &str| {
        let fields = request("/refused", &[]).into_iter();
        fields
            .filter(|(known, _)| *known != name)
            .collect::<Vec<_>>()
    };
    let late = [&[("x", "1")][..], &request("/refused", &[])].concat();
    vec![
        ("a coding", with(("transfer-encoding", "chunked")), Reset),
        ("connection", with(("connection", "close")), Reset),
        ("keep-alive", with(("keep-alive", "1")), Reset),
        (
            "proxy-connection",
            with(("proxy-connection", "close")),
            Reset,
        ),
        ("upgrade", with(("upgrade", "h2c")), Reset),
        ("te", with(("te", "gzip")), Reset),
        ("two authorities", with((":authority", "v3.mesh")), Reset),
        ("two paths", with((":path", "/other")), Reset),
        ("two methods", with((":method", "GET")), Reset),
        ("two schemes", with((":scheme", "http")), Reset),
        ("a pseudo-field after others", late, Reset),
        ("no method", without(":method"), Reset),
        ("no scheme", without(":scheme"), Reset),
        ("no path", without(":path"), Reset),
        ("an empty path", instead(":path", ""), Reset),
        ("a path without a slash", instead(":path", "refused"), Reset),
        (
            "a path with CRLF",
            instead(":path", "/refused\r\nx: 1"),
            Reset,
        ),
        ("a path with NUL", instead(":path", "/refused\0"), Reset),
        (
            "a path with a space",
            instead(":path", "/refused HTTP/1.1"),
            Reset,
        ),
        (
            "a method with CRLF",
            instead(":method", "GET\r\nx: 1"),
            Reset,
        ),
        ("a method with a space", instead(":method", "GET /"), Reset),
        (
            "user information",
            instead(":authority", "x@echo.mesh"),
            Reset,
        ),
        (
            "an authority with CRLF",
            instead(":authority", "echo\r\nx: 1"),
            Reset,
        ),
        ("another host", with(("host", "v3.mesh")), Status(&[400])),
        (
            "two hosts",
            [with(("host", "echo.mesh")), vec![("host", "v3.mesh")]].concat(),
            Status(&[400]),
        ),
        ("neither authority nor host", without(":authority"), Reset),
        (
            "CONNECT",
            vec![(":method", "CONNECT"), (":authority", "v3.mesh:80")],
            Status(&[405]),
        ),
        ("a protocol", with((":protocol", "websocket")), Reset),
        (
            "two lengths",
            [with(("content-length", "0")), vec![("content-length", "5")]].concat(),
            Reset,
        ),
        (
            "two equal lengths",
            [with(("content-length", "0")), vec![("content-length", "0")]].concat(),
            Reset,
        ),
        (
            "a length that is none",
            with(("content-length", "+0")),
            Reset,
        ),
        (
            "a length without a body",
            with(("content-length", "5")),
            Reset,
        ),
        ("an upper-case name", with(("X-Upper", "1")), Reset),
        ("an empty name", with(("", "1")), Reset),
        ("a name with a colon", with(("a:b", "1")), Reset),
        ("a name with CRLF", with(("a\r\nb", "1")), Reset),
        ("a value with CRLF", with(("x", "a\r\nb: c")), Reset),
        ("a value with NUL", with(("x", "a\0b")), Reset),
        ("an unknown pseudo-field", with((":other", "1")), Reset),
        ("a response's pseudo-field", with((":status", "200")), Reset),
    ]
}

/// Frames of stream 1 that do not fit.
fn bodies() -> Vec<(&'static str, Vec<u8>, Want)> {
    let post = |more: &[Field<'static>]| {
        let mut fields = request("/begun", more);
        fields[0] = (":method", "POST");
        headers(1, 0, &block(&fields))
    };
    let length = &[("content-length", "5")][..];
    let trailers = |flags: u8, fields: &[Field<'_>]| headers(1, flags, &block(fields));
    let window = |stream: u32, size: u32| frame(WINDOW, 0, stream, &size.to_be_bytes());
    let most = 0x7fff_ffff;
    vec![
        (
            "a body shorter than its length",
            [post(length), frame(DATA, END_STREAM, 1, b"abc")].concat(),
            Reset,
        ),
        (
            "a body longer than its length",
            [post(length), frame(DATA, END_STREAM, 1, b"abcdefg")].concat(),
            Reset,
        ),
        (
            "trailers that do not end it",
            [
                post(&[]),
                frame(DATA, 0, 1, b"abc"),
                trailers(0, &[("x", "1")]),
            ]
            .concat(),
            Reset,
        ),
        (
            "trailers that are none",
            [
                post(&[]),
                frame(DATA, 0, 1, b"abc"),
                trailers(END_STREAM, &[("x", "a\nb")]),
            ]
            .concat(),
            Reset,
        ),
        (
            "a head in pieces with a name that is none",
            pieces(&block(&request("/refused", &[("X-Upper", "1")]))),
            Reset,
        ),
        (
            "a head in pieces with a connection field",
            pieces(&block(&request("/refused", &[("upgrade", "h2c")]))),
            Reset,
        ),
        // The parser leaves it out: nobody sees it.
        (
            "trailers with a pseudo-field",
            [
                post(&[]),
                frame(DATA, 0, 1, b"abc"),
                trailers(END_STREAM, &[(":path", "/")]),
            ]
            .concat(),
            Status(&[200]),
        ),
        (
            "padding longer than its frame",
            [post(&[]), frame(DATA, 8, 1, &[9, 1])].concat(),
            Inner,
        ),
        (
            "a window of nothing",
            [post(&[]), window(1, 0)].concat(),
            Inner,
        ),
        (
            "a window that overflows",
            [post(&[]), window(1, most)].concat(),
            Reset,
        ),
        ("the connection's window of nothing", window(0, 0), Inner),
        (
            "the connection's window that overflows",
            window(0, most),
            Inner,
        ),
        ("a window of a stream that is not", window(9, 1), Inner),
        (
            "settings that are none",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
            Inner,
        ),
        (
            "settings of half a setting",
            frame(SETTINGS, 0, 0, &[0; 5]),
            Inner,
        ),
        ("a stream of the server", good(2, "/refused"), Inner),
        (
            "data of a stream that is not",
            frame(DATA, 0, 1, b"abc"),
            Inner,
        ),
        (
            "headers of no stream",
            frame(HEADERS, END_HEADERS, 0, &block(&request("/refused", &[]))),
            Inner,
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            Inner,
        ),
        (
            "a frame between the pieces of a head",
            [frame(HEADERS, 0, 1, &[]), frame(DATA, 0, 1, b"")].concat(),
            Inner,
        ),
        (
            "a frame longer than allowed",
            frame(DATA, 0, 1, &[0; 20_000]),
            Inner,
        ),
        (
            "an index of no field",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x03]),
            Inner,
        ),
        (
            "a number without end",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 16]),
            Inner,
        ),
    ]
}

/// A head of stream 1, of which the last byte comes after all others.
fn pieces(block: &[u8]) -> Vec<u8> {
    let (front, last) = block.split_at(block.len() - 1);
    let first = frame(HEADERS, END_STREAM, 1, front);
    [first, frame(CONTINUATION, END_HEADERS, 1, last)].concat()
}

/// Both ends still agree on the dynamic table after an entry that is no field (RFC 7541 section 2.3.2).
#[test]
fn an_entry_that_is_none_is_refused_wherever_it_is_used() {
    let scene = scene();
    let mut wire = scene.dial("echo", 8081);
    wire.send(&hello());
    let mut send = |stream: u32, path: &str, more: &[u8]| {
        let head = [&block(&request(path, &[])), more].concat();
        wire.send(&headers(stream, END_STREAM, &head));
        wire.outcome(path, stream)
    };
    // Two entries: 63 is none, 62 is one.
    let steps: [(&str, &[u8], bool); 5] = [
        ("/refused", b"\x40\x07X-Upper\x011", false),
        ("/kept", b"\x40\x06x-kept\x011", true),
        ("/kept", &[0xbe], true),
        ("/refused", &[0xbf], false),
        ("/kept", &[0xbe], true),
    ];
    for (stream, (path, more, is_good)) in (1..).step_by(2).zip(steps) {
        let outcome = send(stream, path, more);
        match is_good {
            true => assert_eq!(outcome, Outcome::Status(200), "stream {stream}"),
            false => assert!(
                matches!(outcome, Outcome::Reset(1)),
                "stream {stream}: {outcome:?}"
            ),
        }
    }
    assert_eq!(scene.arrived("/refused"), 0);
    assert_eq!(scene.arrived("/kept"), 3);
}

#[test]
fn a_bad_stream_ends_alone() {
    let scene = scene();
    let before = scene.process();
    let mut neighbours = Neighbours::of(&scene);
    let heads = heads()
        .into_iter()
        .map(|(name, fields, want)| (name, headers(1, END_STREAM, &block(&fields)), want));
    let mut wrong = Vec::new();
    for (name, bytes, want) in heads.chain(bodies()) {
        let mut wire = scene.dial("echo", 8081);
        wire.flood([hello(), bytes].concat());
        let outcome = wire.outcome(name, 1);
        let fits = match (want, outcome) {
            (Reset, Outcome::Reset(_)) | (Inner, Outcome::Goaway(_) | Outcome::Closed) => true,
            (Status(wanted), Outcome::Status(status)) => wanted.contains(&status),
            _ => false,
        };
        if !fits {
            wrong.push(format!("{name}: {outcome:?}, wanted {want:?}"));
        }
        if !matches!(outcome, Outcome::Goaway(_) | Outcome::Closed) {
            wire.send(&good(3, "/beside"));
            assert_eq!(wire.outcome(name, 3), Outcome::Status(200), "beside {name}");
        }
        neighbours.check(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(scene.arrived("/refused"), 0);
    assert_eq!(scene.process().id, before.id);
}
