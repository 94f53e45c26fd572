//! Texts and headers that travel with an HBONE tunnel.
//!
//! Codecs only, over bounded input, never panicking on any bytes. Nothing here establishes an
//! identity: that is the certificate's.

pub mod authority;
pub mod baggage;
pub mod forwarded;
pub mod proxy_protocol;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use baggage::Baggage;
pub use forwarded::Forwarded;
