//! HBONE: TCP streams inside HTTP/2 CONNECT inside mutual TLS, and UDP inside CONNECT-UDP (RFC 9298).
//!
//! [`server`] accepts tunnels, [`Pool`] opens them; both end in a [`Stream`], which the relay
//! joins with a TCP connection.

mod client;
mod datagrams;
mod duplex;
mod error;
mod expiry;
mod frames;
mod io;
mod measure;
mod pool;
pub mod server;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod window;

pub use datagrams::Datagrams;
pub use duplex::{Duplex, DuplexReader, DuplexWriter};
pub use error::{Error, Stage};
pub use measure::describe;
pub(crate) use pool::Slot;
pub use pool::{Pool, Target};
pub(crate) use stream::PendingResponse;
pub use stream::{Opening, Stream};

/// The port of HBONE.
pub const PORT: u16 = 15008;

/// What a stream of capsules says of itself (RFC 9297 section 3.4).
const CAPSULE_PROTOCOL: http::HeaderName = http::HeaderName::from_static("capsule-protocol");

/// HTTP/2 and connection limits of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes one stream may have in flight if its peer is far, 64 KiB to 1 GiB; less if it is near.
    pub stream_window: u32,
    /// Bytes all streams of a connection may have in flight at least; more if it takes more to keep a slow reader
    /// from stopping the others.
    pub connection_window: u32,
    /// Largest DATA frame accepted, 16 KiB to 16 MiB - 1.
    pub frame_size: u32,
    /// Streams a peer may open on one connection.
    pub max_streams: u32,
    /// Streams opened on one connection before another is opened.
    pub streams_per_connection: usize,
    /// Connections to one peer over which streams are spread before they share.
    pub spread: usize,
    /// Peers may ask for tunnels that carry UDP (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441 section 3).
    pub takes_udp: bool,
    /// Bytes of request headers accepted.
    pub max_headers: u32,
    /// TCP connect, TLS and HTTP/2 handshake together.
    pub handshake_timeout: std::time::Duration,
    /// A peer's answer to a CONNECT; it dials the application before it answers.
    pub answer_timeout: std::time::Duration,
    /// Streams may go on for this long on a connection of which a certificate has expired.
    pub expired_grace: std::time::Duration,
    /// An accepted connection takes no new streams after this, give or take a tenth: its peer opens
    /// another one, perhaps to an instance that was added meanwhile.
    pub connection_age: Option<std::time::Duration>,
    /// A connection without streams is closed after this.
    pub idle_timeout: std::time::Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            frame_size: 1 << 20,
            max_streams: 200,
            streams_per_connection: 100,
            spread: 2,
            takes_udp: false,
            max_headers: 64 << 10,
            handshake_timeout: std::time::Duration::from_secs(10),
            answer_timeout: std::time::Duration::from_secs(20),
            expired_grace: std::time::Duration::from_secs(3600),
            connection_age: None,
            idle_timeout: std::time::Duration::from_secs(90),
        }
    }
}
