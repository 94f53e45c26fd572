//! WebSocket of a client that speaks HTTP/2 (RFC 8441), as its handshake goes on over HTTP/1.1 (RFC 6455 section 4).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The protocol's name, in `:protocol` and in `Upgrade`.
pub(super) const NAME: &str = "websocket";
/// What is hashed with a key to answer it.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Of the handshake itself: the client's has none of them, and a 101 has no body to be long.
const OWN: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::CONTENT_LENGTH,
];

/// A handshake that is made for a client.
pub(super) struct Handshake(String);

impl Handshake {
    /// Begins one: its key is in the headers.
    pub(super) fn begin(headers: &mut HeaderMap) -> Self {
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        if let Ok(value) = HeaderValue::from_str(&key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, value);
        }
        Self(key)
    }

    /// Whether the headers of a 101 answer it; what is left of them is for the client.
    pub(super) fn is_answered(&self, headers: &mut HeaderMap) -> bool {
        let answer = headers.get(header::SEC_WEBSOCKET_ACCEPT);
        let answered = answer.is_some_and(|it| it.as_bytes() == accept(&self.0).as_bytes());
        for name in OWN {
            headers.remove(name);
        }
        answered
    }
}

/// What a server says to a key (section 4.2.2).
pub(super) fn accept(key: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn a_key_has_one_answer() {
        let handshake = Handshake("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        for (answer, answers) in [
            ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", true),
            ("s3pPLMBiTxaQ9kYGzzhZRbK+xOO=", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::UPGRADE, HeaderValue::from_static(NAME));
            headers.insert(
                header::SEC_WEBSOCKET_ACCEPT,
                HeaderValue::from_static(answer),
            );
            assert_eq!(handshake.is_answered(&mut headers), answers, "{answer}");
            assert!(headers.is_empty(), "{headers:?}");
        }
        assert!(!handshake.is_answered(&mut HeaderMap::new()));
    }

    #[test]
    fn keys_differ() {
        let mut headers = HeaderMap::new();
        let first = Handshake::begin(&mut headers);
        assert_eq!(headers[header::SEC_WEBSOCKET_KEY], first.0);
        assert_ne!(Handshake::begin(&mut headers).0, first.0);
    }
}
