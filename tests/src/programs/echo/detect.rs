//! Tells a connection's protocol by its first bytes.

use super::command::Command;

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Detected {
    /// Could still become more than one protocol.
    Undecided,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A `!MODE` line of this length, newline included.
    Command(Result<Command, String>, usize),
    /// Anything else: raw TCP.
    Raw,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"TRACE ",
    b"CONNECT ",
];

/// Bytes that are always enough for a decision.
pub(super) const ENOUGH: usize = Command::MAX_LINE;

/// Decides, or asks for more bytes.
pub(super) fn detect(head: &[u8]) -> Detected {
    if head.is_empty() {
        return Detected::Undecided;
    }
    if head.starts_with(b"!") {
        return match head.iter().position(|byte| *byte == b'\n') {
            Some(end) => Detected::Command(Command::parse(&head[..end]), end + 1),
            None if head.len() < Command::MAX_LINE => Detected::Undecided,
            None => Detected::Raw,
        };
    }
    if head.starts_with(PREFACE) {
        return Detected::Http2;
    }
    if METHODS.iter().any(|method| head.starts_with(method)) {
        return Detected::Http1;
    }
    if PREFACE.starts_with(head) || METHODS.iter().any(|method| method.starts_with(head)) {
        return Detected::Undecided;
    }
    Detected::Raw
}

#[cfg(test)]
mod tests {
    use super::super::command::Mode;
    use super::*;

    #[test]
    fn first_bytes() {
        let sum = Detected::Command(
            Ok(Command {
                mode: Mode::Sum,
                size: None,
            }),
            5,
        );
        let long = [b'!'; Command::MAX_LINE];
        for (head, expected) in [
            (&b""[..], Detected::Undecided),
            (b"G", Detected::Undecided),
            (b"P", Detected::Undecided),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", Detected::Undecided),
            (PREFACE, Detected::Http2),
            (b"GET / HTTP/1.1", Detected::Http1),
            (b"PATCH /", Detected::Http1),
            (b"GETTING", Detected::Raw),
            (b"hello", Detected::Raw),
            (b"\x16\x03\x01", Detected::Raw),
            (b"!sum", Detected::Undecided),
            (b"!sum\nabc", sum),
            (&long, Detected::Raw),
        ] {
            assert_eq!(detect(head), expected, "{}", head.escape_ascii());
        }
    }
}
