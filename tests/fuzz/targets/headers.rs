//! Nothing that only the proxy may say comes through from a client, a filter or an authorizer; everything else does.
//!
//! The input is lines `name: value`; the number of colons in the first line is how many proxies are trusted.
#![no_main]

use std::net::IpAddr;

use ambit_core::identity::Identity;
use ambit_http::headers::{Hop, Peer, Received, TraceContext, is_ours, receive, request_id};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
    "forwarded",
];
const SAID: [&str; 3] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
];
const PREFIXES: [&str; 3] = ["x-envoy-", "x-istio-", "x-ambit-"];

fuzz_target!(|bytes: &[u8]| {
    let first = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let colons = first.iter().filter(|byte| **byte == b':').count();
    let trusted_hops = u8::try_from(colons).unwrap_or(u8::MAX);
    let sent = parse(bytes);
    let (proxy, client) = (identity("waypoint"), identity("web"));
    let unknown = Peer::new(IpAddr::from([10, 0, 0, 7]));
    let known = unknown.clone().verified(&proxy, &client);
    let is_known = trusted_hops % 2 == 0;
    let hop = Hop {
        peer: if is_known { &known } else { &unknown },
        trusted_hops,
        scheme: "http",
    };
    let client_cert = is_known.then(|| format!("By={proxy};URI={client}"));
    let wanted = (trusted_hops > 0, client_cert.as_deref());
    let mut found = sent.clone();
    let received = receive(&mut found, &hop);
    ours_alone(&found, wanted);
    let named = named(&sent);
    for name in sent.keys() {
        let text = name.as_str();
        let kept = ["host", "content-length"].contains(&text);
        let gone = !kept && named.contains(name) || text.contains('_') || owned(text);
        match gone {
            true if SAID.contains(&text) || text == "te" => {}
            true => assert!(!found.contains_key(name), "{name} is still there"),
            false => assert!(
                sent.get_all(name).iter().eq(found.get_all(name)),
                "{name} is not"
            ),
        }
    }
    finish(&mut found, &received);
    // Whatever filters and authorizers have done.
    found.extend(sent);
    received.forward(&mut found);
    for name in found.keys().map(HeaderName::as_str) {
        assert!(!PREFIXES.iter().any(|it| name.starts_with(it)), "{name}");
    }
    said(&found, wanted);
});

fn parse(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("valid")
}

/// The proxy's own, or of one connection.
fn owned(name: &str) -> bool {
    SAID.contains(&name)
        || HOP_BY_HOP.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What `connection` names, also where somebody writes parameters that it does not have.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all("connection").iter();
    let words = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let words = words.filter_map(|word| word.split(|byte| *byte == b';').next());
    words
        .filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok())
        .collect()
}

/// `wanted` is whether proxies in front are believed, and the client's certificate.
fn ours_alone(headers: &HeaderMap, wanted: (bool, Option<&str>)) {
    for name in headers.keys() {
        let text = name.as_str();
        assert!(!text.contains('_'), "{name}");
        assert!(
            !owned(text) || SAID.contains(&text) || text == "te",
            "{name}"
        );
        assert!(
            !owned(text) || is_ours(name) || text == "forwarded",
            "{name} is ours to say"
        );
    }
    let te: Vec<_> = headers.get_all("te").iter().collect();
    assert!(te.is_empty() || te == ["trailers"], "{te:?}");
    said(headers, wanted);
}

fn said(headers: &HeaderMap, (believed, client_cert): (bool, Option<&str>)) {
    let [addresses, protos, clients] =
        SAID.map(|name| headers.get_all(name).iter().collect::<Vec<_>>());
    assert_eq!(addresses.len(), 1);
    let list = addresses[0].as_bytes();
    assert!(list.ends_with(b"10.0.0.7"));
    assert!(believed || list == b"10.0.0.7");
    assert!(
        protos == ["http"] || believed && protos == ["https"],
        "{protos:?}"
    );
    assert_eq!(clients, client_cert.iter().copied().collect::<Vec<_>>());
}

/// The id of the request and its trace.
fn finish(headers: &mut HeaderMap, received: &Received) {
    assert!(
        received
            .upgrade
            .as_ref()
            .is_none_or(|it| it.len() <= 1 << 20)
    );
    let id = request_id(headers, || [7; 16]);
    let ids: Vec<_> = headers.get_all("x-request-id").iter().collect();
    assert_eq!(ids, [&id]);
    assert!((1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    let trace = TraceContext::of(headers, [9; 24], false);
    assert!(trace.trace_id != 0 && trace.span_id != 0);
    trace.write(headers);
    let next = TraceContext::of(headers, [1; 24], false);
    assert_eq!(next.trace_id, trace.trace_id);
    assert_eq!(next.parent, Some(trace.span_id));
}
