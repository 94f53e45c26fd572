//! Why bytes are not HTTP/1.1, whose fault that is and what it is answered with.

use crate::refusal::{Flag, Refusal};

/// The bytes cannot be trusted. The connection they came on is closed, whatever follows on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} sent {fault}", self.side.as_str())]
pub struct Error {
    /// Who sent them.
    pub side: Side,
    /// What is wrong with them.
    pub fault: Fault,
}

impl Error {
    pub(super) fn request(fault: Fault) -> Self {
        let side = Side::Client;
        Self { side, fault }
    }

    pub(super) fn response(fault: Fault) -> Self {
        let side = Side::Upstream;
        Self { side, fault }
    }

    /// The status for the client: what is wrong with a request, 502 for any fault of a response.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.side {
            Side::Client => self.fault.status(),
            Side::Upstream => 502,
        }
    }

    /// The response flag.
    #[must_use]
    pub fn flag(&self) -> Flag {
        match self.side {
            Side::Client => Flag::DownstreamProtocolError,
            Side::Upstream => Flag::UpstreamProtocolError,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(error.status(), error.flag(), error.to_string())
    }
}

/// Who sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Side {
    Client,
    Upstream,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "the client",
            Self::Upstream => "the backend",
        }
    }
}

/// What is wrong (RFC 9112, and where it leaves a choice, the strict one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("white space before the first line")]
    LeadingSpace,
    #[error("a line that ends with LF alone")]
    BareLineFeed,
    #[error("a line with something between its text and CRLF, or a CR without LF")]
    LineEnd,
    #[error("a malformed request line")]
    RequestLine,
    #[error("a malformed status line")]
    StatusLine,
    #[error("a version before HTTP/1.1")]
    OldVersion,
    #[error("a version that is not HTTP/1.1")]
    UnknownVersion,
    #[error("a header name with a character that is no token, or a folded header")]
    HeaderName,
    #[error("a header value with a control character")]
    HeaderValue,
    #[error("a longer request line than is accepted")]
    LineTooLong,
    #[error("a longer head than is accepted")]
    HeadTooLarge,
    #[error("more headers than are accepted")]
    TooManyHeaders,
    #[error("a request target that does not fit the method")]
    Target,
    #[error("no Host header")]
    NoHost,
    #[error("more than one Host header")]
    SeveralHosts,
    #[error("a Host or authority with a character that no host has")]
    Host,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("a CONNECT with a body")]
    ConnectBody,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    #[error("more than one Content-Length")]
    SeveralLengths,
    #[error("a Content-Length that is not a number of bytes")]
    Length,
    #[error("more than one Transfer-Encoding")]
    SeveralCodings,
    #[error("a transfer coding other than chunked")]
    Coding,
    #[error("a Transfer-Encoding in a version before HTTP/1.1")]
    CodingOfOldVersion,
    #[error("a malformed chunk size")]
    ChunkSize,
    #[error("longer chunk extensions than are accepted")]
    ChunkExtension,
    #[error("a chunk that does not end where its size says")]
    ChunkEnd,
    #[error("more trailers than are accepted")]
    TrailersTooLarge,
    #[error("a trailer that frames or routes the message")]
    TrailerName,
    #[error("the end of the connection in the middle of a message")]
    Truncated,
    #[error("more interim responses than are accepted")]
    TooManyInterim,
    #[error("an interim response with a body")]
    InterimBody,
    #[error("101 to a request that did not ask for that protocol")]
    UnaskedSwitch,
}

impl Fault {
    fn status(self) -> u16 {
        match self {
            Self::LineTooLong => 414,
            Self::Expectation => 417,
            Self::OldVersion => 426,
            Self::HeadTooLarge | Self::TooManyHeaders | Self::TrailersTooLarge => 431,
            Self::Coding => 501,
            Self::UnknownVersion => 505,
            _ => 400,
        }
    }
}

/// A message that must not be sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It would end the line or the word it stands in.
    #[error("a request target or host with a space, a control character or nothing in it")]
    Target,
    /// A body that ends with the connection, where the connection must go on.
    #[error("a body without a framing")]
    Unframed,
    /// More bytes than its Content-Length.
    #[error("the body is longer than its Content-Length")]
    TooLong,
    /// Fewer bytes than its Content-Length.
    #[error("the body is shorter than its Content-Length")]
    TooShort,
}
