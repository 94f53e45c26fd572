//! Headers that proxies own: what is taken from a request, what we say in its place.
//!
//! The order is the point. [`receive`] comes first, before anything is judged: it removes what belongs to one
//! connection, also what `Connection` names, takes away what only we may say, and says it. What it said is
//! said again with [`Received::forward`] right before the request leaves, so that no filter and no
//! authorizer can take our words away.

mod forwarded;
mod hop;
mod names;
mod receive;
mod request_id;
#[cfg(test)]
mod tests;
mod trace;

pub use forwarded::xfcc;
pub use hop::strip_response;
pub(crate) use names::is_frame;
pub use names::{XFCC, is_ours};
pub use receive::{Hop, Peer, Received, receive};
pub use request_id::request_id;
pub use trace::TraceContext;
