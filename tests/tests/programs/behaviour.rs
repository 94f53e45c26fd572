//! What `echo` answers and does on request, over HTTP/1.1 and h2c.

use serde_json::{Value, json};

use crate::start::{Echo, load, report};

fn get(arguments: &[&str]) -> (bool, String) {
    let output = load(&[&["get"], arguments].concat(), "");
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.success(), text)
}

#[test]
fn an_answer_shows_all_that_was_received() {
    let echo = Echo::start(&[""]);
    for (protocol, address, extra) in [
        ("HTTP/1.1", echo.v4(0), None),
        ("HTTP/1.1", echo.v6(0), None),
        ("HTTP/2", echo.v4(0), Some("--h2")),
        ("HTTP/2", echo.v6(0), Some("--h2")),
    ] {
        let url = format!("http://{address}/a/b?x=1&y=%20z");
        let mut arguments = vec![url.as_str(), "-H", "X-Test: yes", "--data", "hello"];
        arguments.extend(extra);
        let (good, text) = get(&arguments);
        assert!(good, "{url} {extra:?}");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        for (pointer, expected) in [
            ("/protocol", json!(protocol)),
            ("/method", json!("POST")),
            ("/authority", json!(address.to_string())),
            ("/path", json!("/a/b")),
            ("/query", json!({ "x": "1", "y": " z" })),
            ("/headers/x-test", json!("yes")),
            ("/body/bytes", json!(5)),
            ("/body/text", json!("hello")),
            ("/local_address", json!(address.to_string())),
            ("/pod", json!("echo-0")),
            ("/namespace", json!("tests")),
            ("/version", json!("v7")),
        ] {
            assert_eq!(
                answer.pointer(pointer),
                Some(&expected),
                "{pointer} of {text}"
            );
        }
        let remote = answer["remote_address"].as_str().expect("an address");
        let remote: std::net::SocketAddr = remote.parse().expect("an address");
        assert_eq!(remote.ip(), address.ip(), "the caller's own address");
    }
}

#[test]
fn failures_are_counted_by_key() {
    let echo = Echo::start(&[""]);
    let base = format!("http://{}", echo.v4(0));
    let statuses: Vec<bool> = [
        "fail=2&key=a",
        "fail=2&key=b",
        "fail=2&key=a",
        "fail=2&key=a",
        "fail=2&key=b",
        "fail=1&key=c&reset=request",
        "fail=1&key=c&reset=request",
    ]
    .iter()
    .map(|query| get(&["-f", &format!("{base}/?{query}")]).0)
    .collect();
    assert_eq!(statuses, [false, false, false, true, false, false, true]);
    let (_, text) = get(&["-i", &format!("{base}/?status=418")]);
    assert!(text.starts_with("HTTP/1.1 418"), "{text}");
    let failing = Echo::start_with(&[""], &["--status", "503"]);
    let base = format!("http://{}", failing.v4(0));
    for (path, status) in [("/", 503), ("/?status=200", 200), ("/requests", 200)] {
        let (_, text) = get(&["-i", &format!("{base}{path}")]);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
    }
}

#[test]
fn resets_and_bad_directives_are_told_apart() {
    let echo = Echo::start(&[""]);
    for (query, h2, kind) in [
        ("reset=request", false, "receive: connection reset"),
        ("reset=headers", false, "receive: connection reset"),
        ("reset=body", false, "receive: connection reset"),
        ("delay=soon", false, "status 400"),
        ("status=503", true, "status 503"),
    ] {
        let url = format!("http://{}/?{query}", echo.v4(0));
        let mut arguments = vec!["http", url.as_str(), "-n", "1"];
        arguments.extend(h2.then_some("--h2"));
        let report = report(&arguments, false);
        assert_eq!(report["errors"]["kinds"], json!({ kind: 1 }), "{query}");
    }
    let url = format!("http://{}/?reset=request", echo.v4(0));
    let report = report(
        &["http", &url, "-n", "3", "--h2", "--max-errors", "3"],
        true,
    );
    assert_eq!(report["errors"]["total"], 3);
    assert_eq!(
        echo.stats(0)["h2c"]["connections"],
        2,
        "on HTTP/2 the stream is reset, not the connection"
    );
}

#[test]
fn bodies_have_the_wanted_size() {
    let echo = Echo::start(&[""]);
    for size in [0, 1, 70_000, 3_000_000] {
        for protocol in [None, Some("--h2")] {
            let url = format!("http://{}/?size={size}", echo.v4(0));
            let mut arguments = vec!["http", url.as_str(), "-n", "2"];
            arguments.extend(protocol);
            assert_eq!(
                report(&arguments, true)["received_bytes"],
                2 * size,
                "{size} {protocol:?}"
            );
        }
    }
}

#[test]
fn a_delay_is_seen_in_the_latency_and_a_rate_in_the_time() {
    let echo = Echo::start(&[""]);
    let url = format!("http://{}/?delay=30ms", echo.v4(0));
    let delayed = report(&["http", &url, "-n", "2"], true);
    assert!(
        delayed["latency_us"]["min"].as_f64() >= Some(30_000.0),
        "{delayed}"
    );
    let url = format!("http://{}/?size=8000&write-rate=40000", echo.v4(0));
    let paced = report(&["http", &url, "-n", "1"], true);
    assert!(paced["seconds"].as_f64() >= Some(0.1), "{paced}");
}
