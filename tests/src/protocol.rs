//! How `lab` commands talk to the daemon: over the lab's unix socket, one request a connection, each
//! message with its length before it. Descriptors for `exec` come with the request.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Manifest;
use crate::mesh::{ComponentStatus, Joining};
use crate::net::weather::Weather;
use crate::sys;

/// No message is longer.
const LONGEST: usize = 64 << 20;

/// What a command asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// How the lab is.
    Status,
    /// Put manifests in force.
    Apply {
        /// The files.
        manifests: Vec<Manifest>,
        /// How long it may take.
        seconds: u64,
    },
    /// Remove what manifests name.
    Delete {
        /// The files.
        manifests: Vec<Manifest>,
        /// Or one object: kind, namespace, name.
        object: Option<(String, String, String)>,
        /// How long it may take.
        seconds: u64,
    },
    /// Show objects.
    Get {
        /// The kind, as people call it.
        kind: String,
        /// One object.
        name: Option<String>,
        /// Of one namespace; of all when absent.
        namespace: Option<String>,
    },
    /// Run a command; the connection carries its standard descriptors.
    Exec {
        /// `POD`, `deploy/NAME` or `node/NAME`.
        target: String,
        /// The pods' namespace.
        namespace: String,
        /// The container; the first when absent.
        container: Option<String>,
        /// The command.
        argv: Vec<String>,
        /// Variables of the caller's terminal.
        env: BTreeMap<String, String>,
    },
    /// Where something logs to.
    LogFile {
        /// `control`, `ztunnel/NODE`, `agent/NODE`, `POD`, `deploy/NAME`.
        target: String,
        /// The pods' namespace.
        namespace: String,
        /// The container; the first when absent.
        container: Option<String>,
    },
    /// End something at once; it is started again as its restart policy says.
    Kill {
        /// `control`, `ztunnel/NODE`, `agent/NODE`, `POD`.
        target: String,
        /// The pods' namespace.
        namespace: String,
    },
    /// End something in order and start it again; answered when it is ready again.
    Restart {
        /// As for `Kill`.
        target: String,
        /// The pods' namespace.
        namespace: String,
        /// How long it may take.
        seconds: u64,
    },
    /// Start a part of the mesh anew; answered when it is ready and the earlier one gone.
    Replace {
        /// `control` or `ztunnel/NODE`.
        target: String,
        /// Variables besides those it has.
        env: BTreeMap<String, String>,
    },
    /// Let a machine join the mesh.
    Join {
        /// Its name.
        machine: String,
        /// As whom.
        joining: Joining,
    },
    /// Let a machine leave the mesh; answered when its proxy has ended.
    Leave {
        /// Its name.
        machine: String,
    },
    /// Change what happens to all that a node sends and receives.
    Network {
        /// `node/NAME`.
        target: String,
        /// It.
        weather: Weather,
    },
    /// End the lab.
    Down,
}

/// What the daemon answers; the last one of a connection is [`Reply::Done`] or [`Reply::Failed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// A line for the person.
    Line(String),
    /// Objects.
    Objects(Vec<Value>),
    /// A file.
    File(PathBuf),
    /// How the lab is.
    Status(Status),
    /// It is done; the exit status of a command that was run, else 0.
    Done(i32),
    /// It could not be done; the reasons.
    Failed(Vec<String>),
}

/// How a lab is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its nodes and how many pods each has.
    pub nodes: Vec<(String, usize)>,
    /// Pods: ready and all.
    pub pods: (usize, usize),
    /// Nodes whose link is not as it should be, and how it is.
    #[serde(default)]
    pub weather: Vec<(String, Weather)>,
    /// The parts of the mesh.
    pub components: Vec<ComponentStatus>,
    /// Why the configuration is not in force; empty when it is.
    pub problems: Vec<String>,
}

/// Sends one message.
///
/// # Errors
/// As the kernel says.
pub fn send(
    stream: &UnixStream,
    message: &impl Serialize,
    descriptors: &[RawFd],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let bytes = [&length.to_be_bytes(), &body[..]].concat();
    let mut sent = sys::send_with_descriptors(stream.as_fd(), &bytes, descriptors)?;
    while sent < bytes.len() {
        sent += sys::send_with_descriptors(stream.as_fd(), &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Receives one message and what came with it; nothing at the end of the connection.
///
/// # Errors
/// As the kernel says, or when it is no message.
pub fn receive<T: for<'de> Deserialize<'de>>(
    stream: &mut UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; 4];
    let (read, descriptors) = sys::receive_with_descriptors(stream.as_fd(), &mut length)?;
    if read == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[read..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other("a message is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders() {
        let (left, mut right) = UnixStream::pair().expect("a socket pair");
        for number in 0..3 {
            send(&left, &Reply::Done(number), &[]).expect("a send");
        }
        drop(left);
        let mut codes = Vec::new();
        while let Some((reply, _)) = receive::<Reply>(&mut right).expect("a message") {
            match reply {
                Reply::Done(code) => codes.push(code),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(codes, [0, 1, 2]);
    }
}
