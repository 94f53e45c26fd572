//! Request/response against a server that echoes.

use anyhow::Context as _;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::datagrams;
use super::engine::{self, Connection, Dial};
use super::failure::{Failure, Stage};
use super::options::RequestResponse;
use super::report::Report;
use super::target::{self, Resolved};
use crate::programs::pattern;

/// What an `echo` says of it must fit into the answer too.
const MOST_IN_A_DATAGRAM: u64 = 60_000;

pub(super) fn run(arguments: &RequestResponse) -> anyhow::Result<Report> {
    let resolved = target::resolve(
        &arguments.address,
        arguments.family,
        arguments.issue.timeout,
    )?;
    let message = pattern::piece(0, arguments.size.max(1));
    if (message.len() as u64) < arguments.size {
        anyhow::bail!("--size is at most {}", pattern::PERIOD);
    }
    let connections = arguments.issue.connections;
    let workers = connections as usize;
    let (protocol, (elapsed, totals)) = if arguments.udp {
        if arguments.size > MOST_IN_A_DATAGRAM {
            anyhow::bail!("--size is at most {MOST_IN_A_DATAGRAM} with --udp");
        }
        let server = resolved.addresses().first().copied();
        let server = server.with_context(|| format!("{} has no address", arguments.address))?;
        let message = &message;
        let dialer = || datagrams::Dialer {
            server,
            message: message.clone(),
        };
        (
            "udp request/response",
            engine::run(&arguments.issue, workers, dialer)?,
        )
    } else {
        let dialer = || Dialer {
            resolved: resolved.clone(),
            message: message.clone(),
        };
        (
            "tcp request/response",
            engine::run(&arguments.issue, workers, dialer)?,
        )
    };
    let report = Report::of_requests(protocol, arguments.address.to_string(), elapsed, totals);
    Ok(Report {
        connections: Some(connections),
        ..report
    })
}

struct Dialer {
    resolved: Resolved,
    message: Bytes,
}

impl Dial for Dialer {
    type Connection = Echoed;

    async fn dial(&self, _: usize) -> Result<Echoed, Failure> {
        Ok(Echoed::new(
            self.resolved.connect().await?,
            self.message.clone(),
        ))
    }
}

/// A connection to an echoing server.
pub(super) struct Echoed {
    stream: TcpStream,
    message: Bytes,
    answer: Box<[u8]>,
}

impl Echoed {
    pub(super) fn new(stream: TcpStream, message: Bytes) -> Self {
        let answer = vec![0; message.len()].into();
        Self {
            stream,
            message,
            answer,
        }
    }
}

impl Connection for Echoed {
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let (mut reader, mut writer) = self.stream.split();
        let send = async {
            let sent = writer.write_all(&self.message).await;
            sent.map_err(|error| Failure::io(Stage::Send, &error))
        };
        let receive = async {
            let read = reader.read_exact(&mut self.answer).await;
            read.map_err(|error| Failure::io(Stage::Receive, &error))
        };
        // At once: a long message fills the socket buffers before the server has echoed it all.
        tokio::try_join!(send, receive)?;
        if *self.answer == *self.message {
            Ok(self.answer.len() as u64)
        } else {
            Err(Failure::corrupted("the echo differs from the message"))
        }
    }

    async fn close(self) {}
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_is_not_taken_for_http_or_a_command() {
        let first = super::pattern::piece(0, 1)[0];
        assert!(
            !first.is_ascii_uppercase() && first != b'!',
            "first byte {first}"
        );
    }
}
