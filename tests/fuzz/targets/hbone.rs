//! What travels with a tunnel: whatever is read is written and read again as the same, and fits into a header.
#![no_main]

use ambit_core::hbone::proxy_protocol::Header;
use ambit_core::hbone::{Authority, Baggage, Forwarded};
use ambit_core::identity::Identity;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((header, length))) = Header::decode(bytes) {
        assert_eq!(
            Header::decode(&bytes[..length - 1]),
            Ok(None),
            "it ends there"
        );
        let written = header.encode();
        assert_eq!(Header::decode(&written), Ok(Some((header, written.len()))));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(authority) = text.parse::<Authority>() {
        let written = authority.to_string();
        assert!(authority.port() != 0 && written.bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(written.parse(), Ok(authority));
    }
    if let Ok(identity) = text.parse::<Identity>() {
        let written = identity.to_string();
        assert!(written.bytes().all(|b| b.is_ascii_graphic()), "{written:?}");
        assert_eq!(written.parse(), Ok(identity));
    }
    let baggage = Baggage::parse(text);
    let written = baggage.to_string();
    assert!(HeaderValue::from_str(&written).is_ok(), "{written:?}");
    // Escapes are longer than what they stand for, and what is read is bounded.
    if written.len() <= 8192 {
        assert_eq!(Baggage::parse(&written), baggage, "{written}");
    }
    let forwarded = Forwarded::parse(text);
    let written = forwarded.to_string();
    assert!(HeaderValue::from_str(&written).is_ok(), "{written:?}");
    if written.len() <= 4096 {
        assert_eq!(Forwarded::parse(&written), forwarded, "{written}");
    }
});
