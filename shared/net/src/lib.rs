//! Effects: sockets and namespaces, netlink, TLS, HBONE, relay, discovery and certificate clients.

#![deny(unsafe_code)]

pub mod ca;
pub mod clock;
pub mod grpc;
pub mod hbone;
mod keep;
pub mod netlink;
pub mod relay;
pub mod revocation;
pub mod sys;
pub mod tls;
pub mod xds;
pub mod zds;
