//! HTTP/1.1 that two readers could take for two different things, and names that are written differently.

use serde_json::Value;

use super::scene::{Neighbours, scene};

/// Comes after every request that is refused, and must not be taken for one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: echo.mesh\r\n\r\n";

/// A request for `/refused` with these lines after `Host`.
fn with(lines: &str) -> String {
    format!("POST /refused HTTP/1.1\r\nHost: echo.mesh\r\n{lines}\r\n\r\n0\r\n\r\n")
}

/// A request for `/begun` with this chunked body.
fn chunks(body: &str) -> String {
    let lines = "Host: echo.mesh\r\nTransfer-Encoding: chunked";
    format!("POST /begun HTTP/1.1\r\n{lines}\r\n\r\n{body}")
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

const BAD: &[u16] = &[400];
const CODING: &[u16] = &[400, 501];

fn framing() -> Vec<(&'static str, String, &'static [u16])> {
    let many = (0..103).map(|n| format!("x-{n}: 1")).collect::<Vec<_>>();
    vec![
        (
            "length and coding",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            BAD,
        ),
        (
            "coding and length",
            with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            BAD,
        ),
        (
            "two lengths",
            with("Content-Length: 5\r\nContent-Length: 0"),
            BAD,
        ),
        (
            "two equal lengths",
            with("Content-Length: 5\r\nContent-Length: 5"),
            BAD,
        ),
        ("a list of lengths", with("Content-Length: 3, 3"), BAD),
        ("a length with a sign", with("Content-Length: +3"), BAD),
        ("a negative length", with("Content-Length: -1"), BAD),
        ("a hexadecimal length", with("Content-Length: 0x5"), BAD),
        ("no length", with("Content-Length: "), BAD),
        (
            "a length too long",
            with("Content-Length: 99999999999999999999"),
            BAD,
        ),
        (
            "a space before the colon",
            with("Transfer-Encoding : chunked"),
            BAD,
        ),
        (
            "a vertical tab before the coding",
            with("Transfer-Encoding: \x0bchunked"),
            BAD,
        ),
        (
            "an unknown coding",
            with("Transfer-Encoding: xchunked"),
            CODING,
        ),
        (
            "another coding first",
            with("Transfer-Encoding: gzip, chunked"),
            CODING,
        ),
        (
            "chunked twice",
            with("Transfer-Encoding: chunked, chunked"),
            CODING,
        ),
        (
            "two codings",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            CODING,
        ),
        ("identity", with("Transfer-Encoding: identity"), CODING),
        (
            "a coding after chunked",
            with("Transfer-Encoding: chunked, identity"),
            CODING,
        ),
        ("a space in a name", with("x y: 1"), BAD),
        ("no name", with(": 1"), BAD),
        ("no colon", with("nothing"), BAD),
        ("NUL in a value", with("x: a\0b"), BAD),
        ("NUL in a name", with("x\0y: 1"), BAD),
        ("a folded line", with("x: a\r\n b"), BAD),
        ("CR in a value", with("x: a\rb: c"), BAD),
        ("LF alone", with("x: 1\nTransfer-Encoding: chunked"), BAD),
        ("two hosts", with("Host: other.mesh"), BAD),
        ("no host", "GET /refused HTTP/1.1\r\n\r\n".into(), BAD),
        (
            "white space first",
            format!(" {}", get("/refused", "echo.mesh")),
            BAD,
        ),
        ("an expectation", with("Expect: 200-ok"), &[400, 417]),
        (
            "HTTP/1.0",
            "GET /refused HTTP/1.0\r\nHost: echo.mesh\r\n\r\n".into(),
            &[426],
        ),
        ("HTTP/0.9", "GET /refused\r\n\r\n".into(), &[426]),
        (
            "a later version",
            "GET /refused HTTP/1.2\r\nHost: echo.mesh\r\n\r\n".into(),
            &[400, 505],
        ),
        (
            "CONNECT",
            "CONNECT v3.mesh:80 HTTP/1.1\r\nHost: v3.mesh:80\r\n\r\n".into(),
            &[405],
        ),
        (
            "a head of 66 KB",
            with(&format!("x: {}", "a".repeat(66_000))),
            &[431],
        ),
        ("103 fields", with(&many.join("\r\n")), &[431]),
        (
            "a long target",
            get(&format!("/{}", "a".repeat(66_000)), "echo.mesh"),
            &[414, 431],
        ),
        (
            "a hexadecimal prefix of a chunk",
            chunks("0x3\r\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        (
            "a chunk of 17 digits",
            chunks("FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        (
            "a chunk's line with LF alone",
            chunks("3\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        (
            "a chunk longer than it says",
            chunks("3\r\nabcd\r\n0\r\n\r\n"),
            BAD,
        ),
        ("a chunk with a sign", chunks("+3\r\nabc\r\n0\r\n\r\n"), BAD),
        (
            "LF in an extension",
            chunks("3;a\nb\r\nabc\r\n0\r\n\r\n"),
            BAD,
        ),
        ("a trailer that is none", chunks("0\r\nx y: 1\r\n\r\n"), BAD),
    ]
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let scene = scene();
    let before = scene.process();
    let mut neighbours = Neighbours::of(&scene);
    for (name, bytes, wanted) in framing() {
        let mut wire = scene.dial("echo", 80);
        wire.flood((bytes + SMUGGLED).into_bytes());
        let answer = wire
            .answer(name)
            .unwrap_or_else(|| panic!("{name}: no answer"));
        assert!(wanted.contains(&answer.status), "{name}: {answer:?}");
        let rest = wire.rest(name);
        assert!(
            rest.is_empty(),
            "{name}: then {:?}",
            String::from_utf8_lossy(&rest)
        );
        neighbours.check(name);
    }
    for path in ["/smuggled", "/refused"] {
        assert_eq!(scene.arrived(path), 0, "{path}");
    }
    assert_eq!(scene.process().id, before.id);
}

#[test]
fn no_spelling_of_a_path_or_host_gets_around_a_policy() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let echo = "echo.mesh";
    for (path, host, wanted) in [
        ("/admin", echo, &[403][..]),
        ("//admin", echo, &[403]),
        ("/%61dmin", echo, &[403]),
        ("/x/../admin", echo, &[403]),
        ("/x/%2e%2e/admin", echo, &[403]),
        ("/./admin", echo, &[403]),
        ("/x\\..\\admin", echo, &[403, 400]),
        ("/x;a=b/../admin", echo, &[403]),
        ("/x%2f..%2fadmin", echo, &[403, 400]),
        ("/x%5c..%5cadmin", echo, &[403, 400]),
        ("http://echo.mesh/admin", echo, &[403]),
        ("/admin%00", echo, &[400]),
        ("/user#s", echo, &[400]),
        ("/%zz", echo, &[400]),
        ("/../../etc/passwd", echo, &[200, 400]),
        ("/%2561dmin", echo, &[200]),
        ("/Admin", echo, &[200]),
        ("/", "secret.com", &[403]),
        ("/", "Secret.COM", &[403]),
        ("/", "secret.com:80", &[403]),
        ("/", "secret.com.", &[403]),
        ("http://secret.com/", "secret.com", &[403]),
        ("http://secret.com/", echo, &[403]),
        ("http://v3.mesh/one", echo, &[200]),
        ("/", "x@secret.com", &[400]),
        ("/", "secret.com/x", &[400]),
        ("/", "secret.com:x", &[400]),
        ("/", "secret.com secret.com", &[400]),
        ("/", "", &[400]),
    ] {
        let name = format!("{path} of {host:?}");
        let mut wire = scene.dial("echo", 80);
        wire.send(get(path, host).as_bytes());
        let answer = wire
            .answer(&name)
            .unwrap_or_else(|| panic!("{name}: no answer"));
        assert!(wanted.contains(&answer.status), "{name}: {answer:?}");
        // What is forwarded is what was judged, and one host everywhere.
        if answer.status == 200 && !path.contains("..") {
            let received: Value = serde_json::from_str(&answer.body).expect("an echo");
            let (host, target) = match path.strip_prefix("http://v3.mesh") {
                Some(target) => ("v3.mesh", target),
                None => (host, path),
            };
            assert_eq!(received["headers"]["host"], host, "{name}");
            assert_eq!(received["target"], target, "{name}");
        }
        neighbours.check(&name);
    }
}

#[test]
fn what_a_client_says_of_itself_is_not_believed() {
    let scene = scene();
    let mut wire = scene.dial("echo", 80);
    let forged = "By=spiffe://cluster.local/ns/x/sa/x;URI=spiffe://cluster.local/ns/mesh/sa/admin";
    let lines = format!(
        "x-forwarded-client-cert: {forged}\r\nx-envoy-peer-metadata: 1\r\nx-istio-attributes: 1\r\n\
         x-ambit-caller: spiffe://cluster.local/ns/mesh/sa/admin\r\nx_role: admin\r\n\
         x-secret: 1\r\nx-kept: 1\r\nx-forwarded-proto: https\r\n\
         Connection: x-secret, x-forwarded-client-cert, x-request-id"
    );
    wire.send(format!("GET / HTTP/1.1\r\nHost: echo.mesh\r\n{lines}\r\n\r\n").as_bytes());
    let answer = wire.answer("headers").expect("an answer");
    let received: Value = serde_json::from_str(&answer.body).expect("an echo");
    let headers = received["headers"].as_object().expect("headers");
    for gone in [
        "x-envoy-peer-metadata",
        "x-istio-attributes",
        "x-ambit-caller",
        "x_role",
        "x-secret",
    ] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:?}");
    }
    let certificate = headers["x-forwarded-client-cert"].to_string();
    assert!(certificate.contains("/ns/mesh/sa/wire"), "{certificate}");
    assert!(!certificate.contains("admin"), "{certificate}");
    assert_eq!(headers["x-kept"], "1");
    assert!(headers.contains_key("x-request-id"), "{headers:?}");
}

/// An upgrade that is not enabled is passed over (RFC 9110 7.8): what follows is HTTP/1.1 or refused.
#[test]
fn an_upgrade_that_is_not_enabled_is_not_made() {
    let scene = scene();
    for protocol in ["h2c", "TLS/1.3", "connect-ip", "websocket, h2c"] {
        let mut wire = scene.dial("echo", 80);
        let lines = format!(
            "Connection: upgrade, http2-settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk"
        );
        wire.send(format!("GET / HTTP/1.1\r\nHost: echo.mesh\r\n{lines}\r\n\r\n").as_bytes());
        let answer = wire.answer(protocol).expect("an answer");
        assert_eq!(answer.status, 200, "{protocol}: {answer:?}");
        let received: Value = serde_json::from_str(&answer.body).expect("an echo");
        for gone in ["upgrade", "http2-settings"] {
            assert!(
                received["headers"][gone].is_null(),
                "{protocol}: {received}"
            );
        }
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let answer = wire.answer(protocol).expect("an answer");
        assert!(
            [400, 505].contains(&answer.status),
            "{protocol}: {answer:?}"
        );
        assert!(wire.rest(protocol).is_empty(), "{protocol}");
    }
}
