//! Responses that no honest server sends: 502, and the connection they came on is not used again.

use std::sync::atomic::{AtomicU32, Ordering};

use super::frames::{
    DATA, END_STREAM, GOAWAY, Outcome, PING, RESET, SETTINGS, block, frame, good, headers, hello,
};
use super::scene::{Neighbours, scene};

/// What a client must not see.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";

fn with(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n0\r\n\r\n")
}

fn responses() -> Vec<(&'static str, String, u16)> {
    let many = (0..103).map(|n| format!("x-{n}: 1")).collect::<Vec<_>>();
    vec![
        (
            "length and coding",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            502,
        ),
        (
            "two lengths",
            with("Content-Length: 5\r\nContent-Length: 6"),
            502,
        ),
        (
            "two equal lengths",
            with("Content-Length: 5\r\nContent-Length: 5"),
            502,
        ),
        ("a length with a sign", with("Content-Length: +5"), 502),
        (
            "an unknown coding",
            with("Transfer-Encoding: xchunked"),
            502,
        ),
        (
            "another coding first",
            with("Transfer-Encoding: gzip, chunked"),
            502,
        ),
        (
            "chunked twice",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            502,
        ),
        (
            "a space before the colon",
            with("Transfer-Encoding : chunked"),
            502,
        ),
        ("CR in a value", with("x: a\rSet-Cookie: b"), 502),
        ("NUL in a value", with("x: a\0b"), 502),
        ("a folded line", with("x: a\r\n b"), 502),
        ("a space in a name", with("x y: 1"), 502),
        ("LF alone", with("x: 1\nSet-Cookie: b"), 502),
        (
            "an unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".into(),
            502,
        ),
        (
            "an interim response with a body",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nabcde".into(),
            502,
        ),
        (
            "interim responses without end",
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000),
            502,
        ),
        (
            "a status below 100",
            "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n".into(),
            502,
        ),
        (
            "a status above 599",
            "HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n".into(),
            502,
        ),
        (
            "a status of four digits",
            "HTTP/1.1 2000 No\r\nContent-Length: 0\r\n\r\n".into(),
            502,
        ),
        (
            "another version",
            "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
            502,
        ),
        (
            "HTTP/1.0 with a coding",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            502,
        ),
        ("another protocol", "SSH-2.0-OpenSSH_9\r\n\r\n".into(), 502),
        (
            "a head of 66 KB",
            with(&format!("x: {}", "a".repeat(66_000))),
            502,
        ),
        ("103 fields", with(&many.join("\r\n")), 502),
        (
            "more than was asked for",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".into(),
            200,
        ),
        (
            "more after no body",
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n".into(),
            204,
        ),
    ]
}

#[test]
fn a_bad_response_is_502_and_its_connection_is_spent() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    for (number, (name, bytes, wanted)) in responses().into_iter().enumerate() {
        let path = format!("/bad/{number}");
        scene.evil.answer(&path, (bytes + SMUGGLED).as_bytes());
        let mut wire = scene.dial("evil", 80);
        let mut ask = |path: &str| {
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: evil.mesh\r\n\r\n").as_bytes());
            let answer = wire.answer(name);
            answer.unwrap_or_else(|| panic!("{name}: no answer"))
        };
        let answer = ask(&path);
        assert_eq!(answer.status, wanted, "{name}: {answer:?}");
        assert!(
            !answer.head.to_lowercase().contains("set-cookie"),
            "{name}: {answer:?}"
        );
        // The client has done no wrong: its connection is still good, and gets what it asks for.
        let answer = ask("/fine");
        assert_eq!(
            (answer.status, &*answer.body),
            (200, "fine"),
            "after {name}"
        );
        neighbours.check(name);
        assert!(
            scene.evil.was_last(&path),
            "{name}: the connection was used again"
        );
    }
}

/// A body that breaks off is not made to look whole.
#[test]
fn a_broken_body_is_not_made_whole() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    for (number, (name, chunks)) in [
        (
            "a hexadecimal prefix",
            "3\r\nabc\r\n0x3\r\nabc\r\n0\r\n\r\n",
        ),
        ("17 digits", "3\r\nabc\r\nFFFFFFFFFFFFFFFFF\r\n"),
        ("LF alone", "3\r\nabc\r\n3\nabc\r\n0\r\n\r\n"),
        ("longer than it says", "3\r\nabcd\r\n0\r\n\r\n"),
        ("a trailer that is none", "3\r\nabc\r\n0\r\nx y: 1\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/broken/{number}");
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        scene.evil.answer(&path, (response + SMUGGLED).as_bytes());
        let mut wire = scene.dial("evil", 80);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: evil.mesh\r\n\r\n").as_bytes());
        let seen = wire.rest(name);
        let seen = String::from_utf8_lossy(&seen);
        assert!(
            !seen.ends_with("0\r\n\r\n") && !seen.contains("smuggled"),
            "{name}: {seen:?}"
        );
        neighbours.check(name);
        assert!(
            scene.evil.was_last(&path),
            "{name}: the connection was used again"
        );
    }
}

type Reply = fn(u32) -> Vec<u8>;

/// How often the server was asked by rows of [`a_bad_response_of_http_2_is_502`].
static REFUSED: AtomicU32 = AtomicU32::new(0);
static ALWAYS: AtomicU32 = AtomicU32::new(0);
static RESETS: AtomicU32 = AtomicU32::new(0);

/// Codes of HTTP/2 (RFC 9113 7).
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

#[test]
fn a_bad_response_of_http_2_is_502() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let limit: &[u8] = &[0, 3, 0, 0, 0, 0];
    let no_streams = [frame(SETTINGS, 0, 0, limit), frame(GOAWAY, 0, 0, &[0; 8])].concat();
    let rows: Vec<(&str, Vec<u8>, Reply, &[u16])> = vec![
        (
            "no streams and GOAWAY",
            no_streams,
            |_| Vec::new(),
            &[502, 503],
        ),
        (
            "connection",
            vec![],
            |of| {
                headers(
                    of,
                    END_STREAM,
                    &block(&[(":status", "200"), ("connection", "close")]),
                )
            },
            &[502],
        ),
        (
            "a coding",
            vec![],
            |of| {
                headers(
                    of,
                    END_STREAM,
                    &block(&[(":status", "200"), ("transfer-encoding", "chunked")]),
                )
            },
            &[502],
        ),
        // Without any route: what was refused was not acted on, and is asked again.
        (
            "a stream refused, and then an answer",
            vec![],
            |of| match REFUSED.fetch_add(1, Ordering::Relaxed) {
                0 => frame(RESET, 0, of, &REFUSED_STREAM.to_be_bytes()),
                _ => headers(of, END_STREAM, &block(&[(":status", "200")])),
            },
            &[200],
        ),
        (
            "streams refused for ever",
            vec![],
            |of| {
                ALWAYS.fetch_add(1, Ordering::Relaxed);
                frame(RESET, 0, of, &REFUSED_STREAM.to_be_bytes())
            },
            &[503],
        ),
        // That it was not acted on is said by no other code.
        (
            "a stream reset",
            vec![],
            |of| {
                RESETS.fetch_add(1, Ordering::Relaxed);
                frame(RESET, 0, of, &INTERNAL_ERROR.to_be_bytes())
            },
            &[503],
        ),
        (
            "no status",
            vec![],
            |of| headers(of, END_STREAM, &block(&[("x", "1")])),
            &[502],
        ),
        (
            "two statuses",
            vec![],
            |of| {
                headers(
                    of,
                    END_STREAM,
                    &block(&[(":status", "200"), (":status", "204")]),
                )
            },
            &[502],
        ),
        (
            "a status of two digits",
            vec![],
            |of| headers(of, END_STREAM, &block(&[(":status", "99")])),
            &[502],
        ),
        // The parser leaves it out: nobody sees it.
        (
            "a request's pseudo-field",
            vec![],
            |of| {
                headers(
                    of,
                    END_STREAM,
                    &block(&[(":status", "200"), (":path", "/")]),
                )
            },
            &[200],
        ),
        (
            "an upper-case name",
            vec![],
            |of| headers(of, END_STREAM, &block(&[(":status", "200"), ("X", "1")])),
            &[502],
        ),
        (
            "a value with CRLF",
            vec![],
            |of| {
                headers(
                    of,
                    END_STREAM,
                    &block(&[(":status", "200"), ("x", "a\r\nb: c")]),
                )
            },
            &[502],
        ),
        (
            "an unasked 101",
            vec![],
            |of| headers(of, 0, &block(&[(":status", "101")])),
            &[502],
        ),
        (
            "interim responses without end",
            vec![],
            |of| headers(of, 0, &block(&[(":status", "103")])).repeat(10_000),
            &[502],
        ),
        (
            "a length without a body",
            vec![],
            |of| {
                headers(
                    of,
                    END_STREAM,
                    &block(&[(":status", "200"), ("content-length", "5")]),
                )
            },
            &[502],
        ),
        (
            "two lengths",
            vec![],
            |of| {
                headers(
                    of,
                    0,
                    &block(&[
                        (":status", "200"),
                        ("content-length", "5"),
                        ("content-length", "6"),
                    ]),
                )
            },
            &[502],
        ),
        (
            "a body before the head",
            vec![],
            |of| frame(DATA, 0, of, b"abc"),
            &[502],
        ),
        // They end the connection before the request has it (503), while it waits (502), or are borne.
        (
            "10,000 pings",
            frame(PING, 0, 0, &[0; 8]).repeat(10_000),
            |of| headers(of, END_STREAM, &block(&[(":status", "204")])),
            &[204, 502, 503],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, greeting, reply, wanted) in rows {
        scene.evil.speak(greeting, reply);
        let mut wire = scene.dial("evil", 8081);
        wire.send(&[hello(), good(1, "/")].concat());
        let outcome = wire.outcome(name, 1);
        match outcome {
            Outcome::Status(status) if wanted.contains(&status) => {}
            _ => wrong.push(format!("{name}: {outcome:?}")),
        }
        neighbours.check(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let asked = [&REFUSED, &ALWAYS, &RESETS].map(|it| it.load(Ordering::Relaxed));
    assert_eq!(asked, [2, 3, 1], "attempts");
}
