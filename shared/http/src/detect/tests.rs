use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn start() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's zero")]
    Instant::now()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn name(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind][..], &prefixed(name)].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed(content)].concat()
}

fn sni(names: &[Vec<u8>]) -> Vec<u8> {
    extension(0, &prefixed(&names.concat()))
}

/// A ClientHello with these extensions, in records of at most `record` bytes.
fn hello(extensions: &[Vec<u8>], record: usize) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([2, 9, 9]);
    body.extend(prefixed(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(prefixed(&extensions.concat()));
    let size = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &size[1..], &body].concat();
    let records = message.chunks(record);
    let records = records.map(|part| [&[0x16, 3, 1][..], &prefixed(part)].concat());
    records.collect::<Vec<_>>().concat()
}

fn asks(host: &str) -> Vec<u8> {
    let other = extension(16, &prefixed(b"\x02h2"));
    hello(
        &[other.clone(), sni(&[name(0, host.as_bytes())]), other],
        16_384,
    )
}

fn tls(sni: Option<&str>) -> Inner {
    Inner::Tls {
        sni: sni.map(Into::into),
    }
}

/// What is detected, `None` for more.
fn found(declared: AppProtocol, seen: &[u8]) -> Option<Inner> {
    match detect(declared, seen) {
        Detected::NeedMore => None,
        Detected::Is(inner) => Some(inner),
    }
}

#[test]
fn what_was_declared_decides() {
    use AppProtocol::*;
    let get = b"GET / HTTP/1.1\r\n";
    for (case, declared, seen, expected) in [
        ("tcp, nothing seen", Tcp, &b""[..], Some(Inner::Opaque)),
        ("tcp, HTTP seen", Tcp, get, Some(Inner::Opaque)),
        ("http2, nothing seen", Http2, b"", Some(Inner::Http2)),
        ("grpc, nothing seen", Grpc, b"", Some(Inner::Http2)),
        ("http, nothing seen", Http11, b"", None),
        ("http", Http11, get, Some(Inner::Http1)),
        ("http, garbage", Http11, b"\x16\x03", Some(Inner::Http1)),
        ("http, version 2", Http11, PREFACE, Some(Inner::Http2)),
        ("http, half a preface", Http11, &PREFACE[..10], None),
        (
            "http, not a preface",
            Http11,
            b"PRI * HTTP/2.1",
            Some(Inner::Http1),
        ),
        ("tls, nothing seen", Tls, b"", None),
        ("tls", Tls, &asks("a.example"), Some(tls(Some("a.example")))),
        ("tls, no TLS", Tls, get, Some(Inner::Opaque)),
    ] {
        assert_eq!(found(declared, seen), expected, "{case}");
    }
}

#[test]
fn what_the_first_bytes_say() {
    let http1 = Some(Inner::Http1);
    let opaque = Some(Inner::Opaque);
    let long = [&b"XGET /"[..], &[b'a'; MAX_SEEN]].concat();
    for (case, seen, expected) in [
        ("nothing", &b""[..], None),
        ("HTTP/2", PREFACE, Some(Inner::Http2)),
        ("half a preface", b"PRI * HTTP", None),
        (
            "PRI that goes elsewhere",
            b"PRI * HTTP/1.1\r\n",
            http1.clone(),
        ),
        ("GET", b"GET /", http1.clone()),
        ("HTTP/0.9", b"GET /\r\n", http1.clone()),
        (
            "lower case, for servers that take it",
            b"get /",
            http1.clone(),
        ),
        ("a tab after the method", b"GET\t/", http1.clone()),
        (
            "lines that end with LF",
            b"POST / HTTP/1.1\n",
            http1.clone(),
        ),
        ("blank before", b" \r\n\tGET /", http1.clone()),
        ("another method", b"PURGE /x HTTP/1.1\r\n", http1.clone()),
        ("another method, not yet", b"PURGE /x HTT", None),
        ("another version", b"PURGE /x HTTP/3.0\r\n", http1.clone()),
        (
            "another version, spelt oddly",
            b"PURGE /x http/1.1 \n",
            http1,
        ),
        ("part of a method", b"GE", None),
        ("SMTP", b"EHLO example.com\r\n", opaque.clone()),
        ("redis, inline", b"PING\r\n", opaque.clone()),
        ("redis", b"*1\r\n$4\r\nPING\r\n", opaque.clone()),
        ("memcached", b"set a 0 0 1\r\n", opaque.clone()),
        ("postgres", b"\0\0\0\x08\x04\xd2\x16\x2f", opaque.clone()),
        ("ssh", b"SSH-2.0-OpenSSH_9\r\n", opaque.clone()),
        ("no method", b"[1]", opaque.clone()),
        (
            "a control character in the target",
            b"PURGE /\x01",
            opaque.clone(),
        ),
        ("a long word", &[b'A'; 40], opaque.clone()),
        ("a line that does not end", &long, opaque),
    ] {
        assert_eq!(found(AppProtocol::Unknown, seen), expected, "{case}");
    }
}

#[test]
fn client_hellos() {
    let one = |host: &str| sni(&[name(0, host.as_bytes())]);
    let whole = asks("a.example");
    let opaque = Some(Inner::Opaque);
    let long = "a".repeat(254);
    let huge = [&[0x16, 3, 1, 0x40, 0][..], &[1, 1, 0, 0]].concat();
    for (case, seen, expected) in [
        ("a name", whole.clone(), Some(tls(Some("a.example")))),
        (
            "upper case and a dot",
            asks("A.Example."),
            Some(tls(Some("a.example"))),
        ),
        ("no name", hello(&[], 16_384), Some(tls(None))),
        (
            "records of one byte",
            hello(&[one("a")], 1),
            Some(tls(Some("a"))),
        ),
        (
            "more after it",
            [whole.clone(), vec![1, 2]].concat(),
            Some(tls(Some("a.example"))),
        ),
        ("one byte missing", whole[..whole.len() - 1].to_vec(), None),
        ("only a type", vec![0x16], None),
        (
            "two names",
            hello(&[sni(&[name(0, b"a"), name(0, b"b")])], 99),
            opaque.clone(),
        ),
        (
            "two extensions",
            hello(&[one("a"), one("b")], 99),
            opaque.clone(),
        ),
        (
            "a name of another kind",
            hello(&[sni(&[name(1, b"a")])], 99),
            opaque.clone(),
        ),
        ("an empty name", asks(""), opaque.clone()),
        ("a name with NUL", asks("a\0b"), opaque.clone()),
        ("a name with a slash", asks("a/b"), opaque.clone()),
        ("a long name", asks(&long), opaque.clone()),
        (
            "a length beyond",
            hello(&[extension(0, &[0, 9, 0])], 99),
            opaque.clone(),
        ),
        (
            "a ServerHello",
            vec![0x16, 3, 3, 0, 4, 2, 0, 0, 0],
            opaque.clone(),
        ),
        ("an alert", vec![0x15, 3, 3, 0, 2, 1, 0], opaque.clone()),
        ("an empty record", vec![0x16, 3, 3, 0, 0], opaque.clone()),
        ("a message of 64 KiB", huge, opaque),
    ] {
        assert_eq!(found(AppProtocol::Tls, &seen), expected, "{case}");
    }
}

#[test]
fn deadlines() {
    use AppProtocol::{Http11, Tls, Unknown};
    let now = start();
    let wait = |millis| Step::Wait {
        until: Some(now + MS(millis)),
    };
    let is = |inner| Step::Is(inner);
    for (case, declared, seen, ended, at, expected) in [
        ("silence", Unknown, &b""[..], false, 0, wait(200)),
        ("silence, almost over", Unknown, b"", false, 199, wait(200)),
        (
            "the server speaks first",
            Unknown,
            b"",
            false,
            200,
            is(Inner::Opaque),
        ),
        ("it has begun", Unknown, b"GE", false, 199, wait(5_000)),
        (
            "it has begun, after the silence",
            Unknown,
            b"GE",
            false,
            300,
            wait(5_000),
        ),
        (
            "it goes nowhere",
            Unknown,
            b"GE",
            false,
            5_000,
            is(Inner::Opaque),
        ),
        ("it is clear", Unknown, b"GET /", false, 0, is(Inner::Http1)),
        (
            "it is clear, late",
            Unknown,
            b"GET /",
            false,
            200,
            is(Inner::Http1),
        ),
        ("the end", Unknown, b"GE", true, 0, is(Inner::Opaque)),
        (
            "the end of nothing",
            Unknown,
            b"",
            true,
            0,
            is(Inner::Opaque),
        ),
        (
            "HTTP may take its time",
            Http11,
            b"",
            false,
            9_000,
            Step::Wait { until: None },
        ),
        ("HTTP that ends", Http11, b"", true, 0, is(Inner::Http1)),
        ("TLS may take some", Tls, b"", false, 300, wait(5_000)),
        (
            "TLS that never comes",
            Tls,
            b"",
            false,
            5_000,
            is(Inner::Opaque),
        ),
    ] {
        let detection = Detection::new(declared, SILENCE, now);
        let step = detection.poll(seen, ended, now + MS(at));
        assert_eq!(step, expected, "{case}");
    }
}

fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let known = vec![
        PREFACE.to_vec(),
        asks("a.example"),
        hello(&[], 7),
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"PURGE /x HTTP/1.1\r\n".to_vec(),
        b"EHLO x\r\n".to_vec(),
    ];
    let changed = (
        prop::sample::select(known),
        any::<prop::sample::Index>(),
        any::<u8>(),
    );
    let changed = changed.prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![changed, prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    /// Once it is clear, more bytes do not change it, and no bytes at all are a panic.
    #[test]
    fn more_never_changes_what_is_clear(bytes in beginnings()) {
        for declared in [AppProtocol::Unknown, AppProtocol::Tls, AppProtocol::Http11] {
            let mut clear = None;
            for end in 0..=bytes.len() {
                let now = found(declared, &bytes[..end]);
                if clear.is_some() {
                    prop_assert_eq!(&now, &clear, "{:?} at {}", declared, end);
                }
                clear = now;
            }
        }
    }
}
