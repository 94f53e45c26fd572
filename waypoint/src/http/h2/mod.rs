//! Connections of HTTP/2, driven by the `h2` crate.

mod client;
mod incoming;
mod opening;
mod send;
mod server;
mod sieved;
#[cfg(test)]
mod tests;

pub(super) use client::{Client, connect};
pub(super) use incoming::Incoming;
pub(super) use server::serve;

/// Bytes one stream may have in flight towards us: what a slow reader can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes all streams of a connection may have in flight: one whose reader is slow must not stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// Bytes of one stream that wait for a peer's window.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams a peer may open on one connection.
const MAX_STREAMS: u32 = 1024;
/// Decoded bytes of a head.
const MAX_HEADERS: u32 = 64 * 1024;
/// Streams a client has reset before they were looked at (CVE-2023-44487).
const MAX_RESETS: usize = 64;
/// Streams that were reset for what a peer did wrong on them.
const MAX_ERRORS: usize = 256;
