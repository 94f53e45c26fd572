//! One canonical path: nothing ambiguous is left in it, reading it again changes nothing, whoever resolves it reads what
//! we do, and what was judged is what is sent.
#![no_main]

use ambit_http::h1::{Connection, Framing, RequestDecoder, RequestLine, encode_request_head};
use ambit_http::path::{CanonicalPath, canonical};
use bytes::BytesMut;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &str| {
    let Ok(found) = canonical(raw) else { return };
    let path = found.path();
    assert!(path.starts_with('/') && !path.contains("//"), "{found}");
    assert!(
        path.bytes()
            .all(|b| b.is_ascii_graphic() && !b"\\#?".contains(&b)),
        "{found}"
    );
    for segment in path.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        assert!(!matches!(name, "." | ".."), "{found}");
    }
    for byte in decoded(path.as_bytes()) {
        assert!(!byte.is_ascii_control() && byte != b'\\', "{found}");
    }
    let (before, query) = match raw.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (raw, None),
    };
    assert_eq!(found.query(), query, "{found}");
    assert_eq!(
        resolved(path.as_bytes()),
        resolved(before.as_bytes()),
        "{found}"
    );
    assert_eq!(canonical(found.as_str()), Ok(found.clone()));
    assert_eq!(sent(&found), found.as_str());
});

/// The segments that an application works with which decodes and resolves once.
fn resolved(path: &[u8]) -> Vec<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for segment in decoded(path).split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment.to_vec()),
        }
    }
    segments
}

fn decoded(mut path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [byte, rest @ ..] = path {
        let digits = rest.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let value = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        path = rest;
        match (byte, value) {
            (b'%', Some(value)) => {
                bytes.push(value);
                path = &rest[2..];
            }
            _ => bytes.push(*byte),
        }
    }
    bytes
}

/// The target of the request that goes out, as the next reader of HTTP/1.1 sees it.
fn sent(path: &CanonicalPath) -> String {
    let mut out = BytesMut::new();
    let line = RequestLine {
        method: &Method::GET,
        target: path.as_str(),
        host: "a",
    };
    encode_request_head(
        &mut out,
        &line,
        &HeaderMap::new(),
        Framing::None,
        Connection::KeepAlive,
    )
    .expect("a canonical path is a target");
    let head = RequestDecoder::new().decode(&mut out);
    let head = head.expect("what we write is HTTP").expect("all of it");
    head.target.into_path_and_query().to_string()
}
