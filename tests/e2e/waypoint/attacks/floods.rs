//! Much of what one of is harmless: the waypoint stays small, and the neighbours are answered.

use std::time::Duration;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, PRIORITY, RESET, SETTINGS,
    WINDOW, block, frame, good, headers, hello, request, text,
};
use super::scene::{Neighbours, scene};

const MANY: u32 = 10_000;
/// What the waypoint may grow by over all floods: buffers that are kept, and what the allocator does not
/// give back.
const GROWTH: u64 = 64 << 20;

/// And how long it may be busy with all of them, and with what other tests ask meanwhile: less than a second is usual.
const BUSY: Duration = Duration::from_secs(5);

/// What may become of the stream of a flood, or of a request after it.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// It is answered: the flood costs nothing.
    Fine,
    /// Its connection ends.
    Ended,
    /// It is answered so.
    Status(u16),
}

use Want::{Ended, Fine, Status};

/// The odd numbers from `first`.
fn streams(first: u32) -> impl Iterator<Item = u32> {
    (0..MANY).map(move |number| first + 2 * number)
}

/// Each with the stream that is looked at.
fn floods() -> Vec<(&'static str, Vec<u8>, u32, Want)> {
    let many = |piece: Vec<u8>| piece.repeat(MANY as usize);
    let cancel = 8u32.to_be_bytes();
    let post = || {
        let mut fields = request("/flood", &[]);
        fields[0] = (":method", "POST");
        headers(1, 0, &block(&fields))
    };
    let head = block(&request("/flood", &[]));
    let open = frame(HEADERS, END_STREAM, 1, &head);
    let mut crumbs = head.clone();
    for _ in 0..MANY {
        crumbs.extend(block(&[("cookie", "a=b")]));
    }
    let fields: Vec<_> = (0..103).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = fields.iter().map(|name| (&**name, "1")).collect();
    // One entry of the table, and many names of it (RFC 7541 6.1).
    let mut bomb = head.clone();
    bomb.push(0x40);
    text(&mut bomb, b"bomb");
    text(&mut bomb, &[b'a'; 3_900]);
    bomb.extend([0xbe].repeat(MANY as usize));
    // The table is emptied and grown, again and again (RFC 7541 6.3).
    let mut churn = [0x20, 0x3f, 0xe1, 0x1f].repeat(MANY as usize);
    churn.extend(&head);
    let large = "a".repeat(66_000);
    let resets =
        streams(1).flat_map(|it| [good(it, "/reset"), frame(RESET, 0, it, &cancel)].concat());
    let closed = streams(1).flat_map(|it| [good(it, "/closed"), frame(DATA, 0, it, b"x")].concat());
    let provoked =
        streams(1).flat_map(|it| [good(it, "/provoked"), frame(WINDOW, 0, it, &[0; 4])].concat());
    let none = streams(1).flat_map(|it| {
        let fields = request("/none", &[("X-Upper", "1")]);
        headers(it, END_STREAM, &block(&fields))
    });
    vec![
        (
            "requests with names that are none",
            none.collect(),
            99_999,
            Ended,
        ),
        (
            "requests that are reset (CVE-2023-44487)",
            resets.collect(),
            99_999,
            Ended,
        ),
        (
            "requests made to be reset (CVE-2025-8671)",
            provoked.collect(),
            99_999,
            Ended,
        ),
        (
            "data after the end of streams",
            closed.collect(),
            99_999,
            Ended,
        ),
        (
            "empty continuations",
            [open.clone(), many(frame(CONTINUATION, 0, 1, &[]))].concat(),
            1,
            Ended,
        ),
        (
            "full continuations",
            [
                open,
                many(frame(
                    CONTINUATION,
                    0,
                    1,
                    &block(&[("x", &"a".repeat(1_000))]),
                )),
            ]
            .concat(),
            1,
            Ended,
        ),
        (
            "pings",
            [many(frame(PING, 0, 0, &[0; 8])), good(1, "/flood")].concat(),
            1,
            Fine,
        ),
        (
            "settings",
            [many(frame(SETTINGS, 0, 0, &[])), good(1, "/flood")].concat(),
            1,
            Fine,
        ),
        (
            "priorities",
            [
                many(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
                good(1, "/flood"),
            ]
            .concat(),
            1,
            Fine,
        ),
        (
            "empty data",
            [
                post(),
                many(frame(DATA, 0, 1, &[])),
                frame(DATA, END_STREAM, 1, b"x"),
            ]
            .concat(),
            1,
            Ended,
        ),
        (
            "windows of one byte",
            [many(frame(WINDOW, 0, 0, &[0, 0, 0, 1])), good(1, "/flood")].concat(),
            1,
            Fine,
        ),
        (
            "one entry of the table named often",
            headers(1, END_STREAM, &bomb),
            1,
            Ended,
        ),
        (
            "changes of the table's size",
            headers(1, END_STREAM, &churn),
            1,
            Fine,
        ),
        (
            "crumbs of a cookie",
            headers(1, END_STREAM, &crumbs),
            1,
            Ended,
        ),
        (
            "a head of 66 KB",
            headers(1, END_STREAM, &block(&request("/flood", &[("x", &large)]))),
            1,
            Status(431),
        ),
        (
            "103 fields",
            headers(1, END_STREAM, &block(&request("/flood", &fields))),
            1,
            Status(431),
        ),
        (
            "a head that never ends",
            frame(HEADERS, END_HEADERS, 1, &head[..head.len() - 1]),
            1,
            Ended,
        ),
    ]
}

#[test]
fn floods_cost_their_own_connection() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let before = scene.process();
    let mut wrong = Vec::new();
    for (name, bytes, stream, want) in floods() {
        let mut wire = scene.dial("echo", 8081);
        wire.flood([hello(), bytes].concat());
        let outcome = wire.outcome(name, stream);
        let fits = match want {
            Fine => outcome == Outcome::Status(200),
            Ended => matches!(outcome, Outcome::Goaway(_) | Outcome::Closed),
            Status(status) => outcome == Outcome::Status(status),
        };
        if !fits {
            wrong.push(format!("{name}: {outcome:?}, wanted {want:?}"));
        }
        neighbours.check(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let after = scene.process();
    assert_eq!(after.id, before.id);
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown < GROWTH, "{before:?}, {after:?}");
    let busy = after.busy - before.busy;
    assert!(busy < BUSY, "{before:?}, {after:?}");
}

/// Responses that nobody takes wait at the backend.
#[test]
fn who_reads_nothing_is_not_read_for() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let before = scene.process();
    let large = "/?size=16777216";
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let requests: Vec<u8> = streams(1).take(64).flat_map(|it| good(it, large)).collect();
    let mut h2 = scene.dial("echo", 8081);
    h2.flood([hello(), no_window, requests].concat());
    assert_eq!(h2.outcome("no window", 127), Outcome::Status(200));
    neighbours.check("no window");
    let mut wires = Vec::new();
    // On the HBONE connections that the neighbours use as well.
    for _ in 0..24 {
        let mut wire = scene.dial("echo", 80);
        wire.flood(
            format!("GET {large} HTTP/1.1\r\nHost: echo.mesh\r\n\r\n")
                .repeat(1_000)
                .into_bytes(),
        );
        let begun = wire.take("a response that nobody reads", |seen| {
            seen.starts_with(b"HTTP/1.1 200").then_some(((), 0))
        });
        begun.expect("a response");
        wires.push(wire);
    }
    // The windows fill while the neighbours are asked.
    for _ in 0..100 {
        neighbours.check("no reader");
    }
    let after = scene.process();
    let grown = after.resident.saturating_sub(before.resident);
    assert_eq!(after.id, before.id);
    assert!(grown < GROWTH, "{before:?}, {after:?}");
    let busy = after.busy - before.busy;
    assert!(busy < BUSY, "{before:?}, {after:?}");
}
