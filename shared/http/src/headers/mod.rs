//! Headers that proxies own: what is taken from a request, what we say in its place.
//!
//! The order is the point. [`receive`] comes first, before anything is judged: it removes what belongs to one
//! connection, also what `Connection` names, and everything only we may say. [`forward`] comes last, so that
//! nothing a client or a filter does can take our own words away.

mod forwarded;
mod hop;
mod names;
mod request_id;
#[cfg(test)]
mod tests;
mod trace;

pub use forwarded::{Hop, client_ip, forward, xfcc};
pub use hop::{Hops, receive, strip_response};
pub use names::{XFCC, is_ours};
pub use request_id::request_id;
pub use trace::TraceContext;
