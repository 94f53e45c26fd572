//! What an eavesdropper sees of TLS: records and the two clear messages of a TLS 1.3 handshake
//! (RFC 8446, sections 4.1 and 5.1).

const HEADER: usize = 5;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: [u8; 2] = [3, 4];

/// The handshake message that a stream starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// A client's.
    ClientHello,
    /// A server's that chose TLS 1.3.
    ServerHelloTls13,
    /// A server's that chose something else.
    ServerHelloOther,
}

/// What the records of one direction say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The first handshake message.
    pub handshake: Option<Handshake>,
    /// How many records are encrypted.
    pub encrypted: usize,
    /// Whether every byte is part of a record that TLS 1.3 sends.
    pub only_tls: bool,
}

/// Reads a stream as records.
pub(super) fn inspect(stream: &[u8]) -> Seen {
    let mut seen = Seen {
        only_tls: !stream.is_empty(),
        ..Seen::default()
    };
    let mut rest = stream;
    while !rest.is_empty() {
        let [kind, 3, 1 | 3, high, low, ..] = *rest else {
            seen.only_tls &= rest.len() < HEADER;
            return seen;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let body = &rest[HEADER..rest.len().min(HEADER + length)];
        match (kind, seen.handshake) {
            (HANDSHAKE, None) => match hello(body) {
                Some(handshake) => seen.handshake = Some(handshake),
                None => seen.only_tls = false,
            },
            (APPLICATION_DATA, Some(_)) => seen.encrypted += 1,
            (CHANGE_CIPHER_SPEC | ALERT, _) => {}
            // Everything after the first message is encrypted in TLS 1.3.
            _ => seen.only_tls = false,
        }
        rest = rest.get(HEADER + length..).unwrap_or_default();
    }
    seen
}

fn hello(body: &[u8]) -> Option<Handshake> {
    match *body.first()? {
        CLIENT_HELLO => Some(Handshake::ClientHello),
        SERVER_HELLO if chose_1_3(body).unwrap_or(false) => Some(Handshake::ServerHelloTls13),
        SERVER_HELLO => Some(Handshake::ServerHelloOther),
        _ => None,
    }
}

/// Whether a server's hello says TLS 1.3 in its extensions.
fn chose_1_3(body: &[u8]) -> Option<bool> {
    // Message header, version, random; then the session's number with its length.
    let session = 4 + 2 + 32;
    let after = session + 1 + usize::from(*body.get(session)?);
    // Cipher suite, compression, length of the extensions.
    let mut extensions = body.get(after + 2 + 1 + 2..)?;
    while let [kind_high, kind_low, high, low, rest @ ..] = extensions {
        let kind = u16::from_be_bytes([*kind_high, *kind_low]);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if kind == SUPPORTED_VERSIONS {
            return Some(rest.get(..length)? == TLS_1_3);
        }
        extensions = rest.get(length..)?;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&[kind, 3, 3, length[0], length[1]], body].concat()
    }

    fn server_hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![SERVER_HELLO, 0, 0, 0, 3, 3];
        body.extend([7; 32]);
        body.extend([2, 1, 1, 0x13, 0x02, 0]);
        body.extend(
            u16::try_from(extensions.len())
                .expect("short")
                .to_be_bytes(),
        );
        body.extend(extensions);
        record(HANDSHAKE, &body)
    }

    #[test]
    fn streams_as_an_eavesdropper_sees_them() {
        let data = record(APPLICATION_DATA, b"secret");
        let new = server_hello(&[0, 51, 0, 1, 9, 0, 43, 0, 2, 3, 4]);
        let old = server_hello(&[0, 51, 0, 1, 9]);
        for (name, stream, handshake, encrypted, only_tls) in [
            ("nothing", vec![], None, 0, false),
            ("plain text", b"GET / HTTP/1.1\r\n".to_vec(), None, 0, false),
            (
                "client",
                [record(HANDSHAKE, &[1]), data.clone()].concat(),
                Some(Handshake::ClientHello),
                1,
                true,
            ),
            (
                "server",
                [
                    new.clone(),
                    record(CHANGE_CIPHER_SPEC, &[1]),
                    data.clone(),
                    data.clone(),
                ]
                .concat(),
                Some(Handshake::ServerHelloTls13),
                2,
                true,
            ),
            (
                "old server",
                old,
                Some(Handshake::ServerHelloOther),
                0,
                true,
            ),
            (
                "clear after the hello",
                [new.clone(), record(HANDSHAKE, &[11])].concat(),
                Some(Handshake::ServerHelloTls13),
                0,
                false,
            ),
            (
                "cut",
                [new, data[..8].to_vec()].concat(),
                Some(Handshake::ServerHelloTls13),
                1,
                true,
            ),
        ] {
            assert_eq!(
                inspect(&stream),
                Seen {
                    handshake,
                    encrypted,
                    only_tls
                },
                "{name}"
            );
        }
    }
}
