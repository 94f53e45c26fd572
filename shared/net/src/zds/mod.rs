//! ZDS: the node agent tells the node proxy which pods of this node are in the mesh.
//!
//! The proxy connects to the agent's `SOCK_SEQPACKET` socket and says hello. The agent sends one request a packet, an
//! addition with the pod's network namespace beside it, and the proxy answers each before the next. A new connection starts
//! with all pods that there are (the snapshot). The messages are `ambit_core::zds`.

mod client;
mod connection;
mod packets;
mod server;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ambit_core::zds::{Malformed, Request, WorkloadInfo};
pub use client::Client;
pub use server::{Pod, Server};

/// Why a pod is not served, or a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be used.
    #[error("{action} {}: {source}", path.display())]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the ZDS connection broke: {0}")]
    Connection(#[from] io::Error),
    /// The other side does not speak ZDS.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The proxy answered, with an error.
    #[error("the node proxy refused pod {uid}: {reason}")]
    Refused {
        /// The pod's UID.
        uid: String,
        /// The proxy's words.
        reason: String,
    },
    /// The proxy did not answer.
    #[error("the node proxy did not answer about pod {uid} within {waited:.1?}")]
    Unanswered {
        /// The pod's UID.
        uid: String,
        /// How long it had.
        waited: Duration,
    },
    /// No proxy is there to ask.
    #[error(
        "no node proxy is connected to {} (waited {waited:.1?}): is ztunnel running on this node?",
        path.display()
    )]
    NoProxy {
        /// The agent's socket.
        path: PathBuf,
        /// How long one was waited for.
        waited: Duration,
    },
}

impl Error {
    fn socket(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Socket {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
