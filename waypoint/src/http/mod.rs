//! HTTP through a waypoint.
//!
//! ```text
//! connection (h1, h2)  request head, canonical host and path
//!   pipeline           tokens -> policies -> route -> filters
//!     attempt          endpoint -> connection (kept or new) -> exchange; again, as the retry policy says
//!   pipeline           edits of the response
//! connection           response, as fast as the client takes it; record: metrics, log line, span
//! ```
//!
//! Everything a peer controls is bounded: heads, interim responses, windows, streams, what is kept of a body for
//! another attempt, kept connections, copies that are under way. Who is slow holds up nobody else, and a
//! stream holds about as much memory as is read of a body at once.

mod attempt;
mod authorizer;
mod body;
mod connections;
mod desk;
mod engine;
mod h1;
mod h2;
mod keys;
mod message;
mod mirror;
mod patience;
mod pipeline;
mod record;
mod refuse;
mod verify;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;

use crate::io::Io;
use crate::session::Session;

pub(crate) use engine::{Common, Engine, Telemetry};
pub(crate) use record::{LastSeries, reported};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Serves the requests of one connection; `first` has been read from it already.
pub(crate) async fn serve(session: Arc<Session>, io: Io, first: Bytes, version: Version) {
    match version {
        Version::Http1 => h1::serve(session, io, first).await,
        Version::Http2 => h2::serve(session, io, first).await,
    }
}
