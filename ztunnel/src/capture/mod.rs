//! How a pod's TCP traffic, and its UDP if it asks for that, is led through the node proxy, without the pod's knowledge.
//!
//! `rules` says what is to be, as plain data; [`apply`] makes it so in a pod's network namespace. All of it is
//! netlink: no program is run.

mod apply;
mod exclusions;
mod flows;
mod rules;

pub use apply::{
    Error, apply, apply_host, remove, remove_host, verify, verify_host, yield_traffic,
};
pub use rules::{
    DNS_PORT, HBONE_PORT, INBOUND_PORT, OUTBOUND_PORT, Options, PROBE_V4, PROBE_V6, Redirection,
    host, redirection, yielding,
};

#[cfg(test)]
mod tests;
