//! DNS of the mesh, without IO: the messages of a pod's resolver, and what the mesh answers.
//!
//! What the mesh does not know is for the resolver that the pod asked; this module never says that a name does not exist.

mod answer;
mod lookup;
mod message;
mod name;
mod reply;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Client, Data, Records, answer};
pub use lookup::{addresses, question};
pub use message::{Code, Malformed, Query, RecordType};
pub use reply::code;

/// The longest message that any client takes in a datagram (RFC 1035, section 4.2.1).
pub const PLAIN_LIMIT: usize = 512;
/// The longest datagram that is sent, whatever the client takes.
pub const MOST_DATAGRAM: u16 = 4096;
/// The longest message there is: TCP has its length in 16 bits.
pub const LONGEST: usize = u16::MAX as usize;
