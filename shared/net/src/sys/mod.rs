//! The kernel's edge: network namespaces and the sockets made in them.
//!
//! [`Sockets`] is the one place that knows marks, namespaces and transparent addresses; every
//! other module is the same whether it serves a pod or runs alone.

#![allow(unsafe_code)]

mod datagrams;
mod fd_pass;
mod loss;
mod netns;
mod original_dst;
mod round_trip;
mod sockets;
mod succession;

pub use datagrams::{Answering, Captured, Capturing};
pub use fd_pass::{Packet, receive_packet, send_packet, watch};
use loss::bound_loss;
pub use netns::Netns;
pub use original_dst::original_dst;
pub use round_trip::round_trip;
pub use sockets::{Listen, Sockets, no_ipv6, reset};
pub use succession::give_way;

/// The mark on every packet the proxy sends, which the redirection rules let pass (0x539).
pub const PROXY_MARK: u32 = 1337;

/// The mark on what the proxy answers in the name of others (0x53a). It belongs to flows that others have opened, and is not to be
/// taken for what the proxy sends of its own.
pub const ANSWER_MARK: u32 = 0x53a;
