//! Huffman's code, and which bytes `http` takes for no name, value or method.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::super::huffman::{decode, measure};
use super::super::text::{Coded, Kind};
use super::encoder::huffman;

fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
    let (length, _) = measure(coded).ok()?;
    let bytes = decode(coded);
    assert_eq!(bytes.len(), length);
    Some(bytes)
}

fn fits(kind: Kind, text: &[u8]) -> bool {
    let coded = huffman(text);
    let [plain, coded] = [(false, text), (true, &*coded)].map(|(is_huffman, bytes)| {
        let coded = Coded { is_huffman, bytes };
        kind.fits(&coded.text().expect("a string"))
    });
    assert_eq!(plain, coded, "{text:?}");
    plain
}

fn kind(name: &[u8]) -> Kind {
    let coded = Coded {
        is_huffman: false,
        bytes: name,
    };
    coded.text().expect("a string").kind()
}

#[test]
fn huffmans_code() {
    // RFC 7541 appendix C.4.
    let examples: [(&str, &[u8]); 3] = [
        (
            "www.example.com",
            b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        ),
        ("no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
        ("custom-key", b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f"),
    ];
    for (text, coded) in examples {
        assert_eq!(huffman(text.as_bytes()), coded, "{text}");
        assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()), "{text}");
    }
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    assert_eq!(decoded(&huffman(&all)), Some(all));
    assert_eq!(decoded(&[]), Some(Vec::new()));
    for (name, coded) in [
        ("padding of zeros", &b"\xa8\xeb\x10\x64\x9c\xb0"[..]),
        ("padding of eight bits", b"\xa8\xeb\x10\x64\x9c\xbf\xff"),
        ("nothing but padding", b"\xff"),
        ("the end's code", b"\xff\xff\xff\xff"),
        ("half a code", b"\xff\xff"),
    ] {
        assert_eq!(decoded(coded), None, "{name}");
    }
}

#[test]
fn names_values_and_methods_are_those_of_http() {
    for byte in 0..=255 {
        for text in [
            vec![byte],
            vec![b'a', byte],
            vec![byte, b'a'],
            vec![byte; 70],
        ] {
            let name = HeaderName::from_lowercase(&text).is_ok();
            assert_eq!(kind(&text) == Kind::Field, name, "name {text:?}");
            let value = HeaderValue::from_bytes(&text).is_ok();
            assert_eq!(fits(Kind::Field, &text), value, "value {text:?}");
            let method = Method::from_bytes(&text).is_ok();
            assert_eq!(fits(Kind::Method, &text), method, "method {text:?}");
            let utf8 = str::from_utf8(&text).is_ok();
            assert_eq!(fits(Kind::Text, &text), utf8, "text {text:?}");
        }
    }
    assert!(fits(Kind::Field, b"") && fits(Kind::Text, b"") && !fits(Kind::Method, b""));
    assert!(fits(Kind::Text, "/ä".as_bytes()));
    for status in ["200", "099", "999", "20", "2000", "2x0", ""] {
        let known = StatusCode::from_bytes(status.as_bytes()).is_ok();
        assert_eq!(fits(Kind::Status, status.as_bytes()), known, "{status}");
    }
}

#[test]
fn pseudo_fields_have_their_kinds() {
    for (name, known) in [
        (":authority", Kind::Text),
        (":path", Kind::Text),
        (":protocol", Kind::Text),
        (":scheme", Kind::Text),
        (":method", Kind::Method),
        (":status", Kind::Status),
        (":other", Kind::Fault),
        (":authority2", Kind::Fault),
        (":", Kind::Fault),
        ("", Kind::Fault),
    ] {
        assert_eq!(kind(name.as_bytes()), known, "{name:?}");
    }
}
