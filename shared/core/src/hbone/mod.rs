//! Texts and headers that travel with an HBONE tunnel.
//!
//! Codecs only, over bounded input, never panicking on any bytes. Nothing here establishes an
//! identity: that is the certificate's.

pub mod authority;
pub mod baggage;
pub mod datagram;
pub mod forwarded;
pub mod proxy_protocol;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use baggage::Baggage;
pub use forwarded::Forwarded;

/// The header in which a waypoint says who called it: a SPIFFE id. Believed from the waypoint of what is
/// asked for and from nobody else; see [`plan_inbound`](crate::plan::plan_inbound).
pub const CALLER: &str = "x-ambit-caller";
