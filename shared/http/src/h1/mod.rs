//! HTTP/1.1 on bytes that somebody else reads and writes (RFC 9112).
//!
//! Heads are parsed by `httparse`; framing is ours, and strict: whatever two recipients could read
//! in two ways is refused, and after a fault nothing more is read from that connection. Nothing is
//! copied: header values, the request target and the pieces of a body are slices of the buffer they
//! arrived in, which lives as long as one of them does.
//!
//! A server: [`RequestDecoder`], [`BodyDecoder`], [`encode_response_head`]. A client:
//! [`encode_request_head`], [`ResponseDecoder`], [`BodyDecoder`]. Both write bodies with a
//! [`BodyEncoder`]. Encoders write the framing, `Connection` and `Host` themselves and pass over
//! those in the map, so that what was decided is what is sent.

mod body;
mod encode;
mod error;
mod fields;
mod frame;
mod lines;
mod request;
mod response;
mod target;
#[cfg(test)]
mod tests;
pub mod trailers;

pub use body::{BodyDecoder, Piece};
pub use encode::{
    Connection, RequestLine, encode_interim_head, encode_request_head, encode_response_head,
};
pub use error::{EncodeError, Error, Fault, Side};
pub use frame::{BodyEncoder, Frame};
pub use request::{RequestDecoder, RequestHead};
pub use response::{Asked, Next, ResponseDecoder, ResponseHead};
pub use target::Target;

/// Bytes of a head, its empty line included.
pub const MAX_HEAD: usize = 64 * 1024;
/// Fields of a head, and of trailers.
pub const MAX_HEADERS: usize = 100;
/// Bytes of trailers.
pub const MAX_TRAILERS: usize = 16 * 1024;
/// Interim responses before a final one.
pub const MAX_INTERIM: usize = 16;

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After that many bytes.
    Length(u64),
    /// After its last chunk and the trailers.
    Chunked,
    /// With the connection: responses only.
    UntilClose,
}
