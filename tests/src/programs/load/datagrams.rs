//! Datagrams to an `echo`, each waited for before the next: request/response without connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::engine::{Connection, Dial};
use super::failure::{Failure, Stage};

/// What an `echo` says before the datagram that it sends back is no longer than this.
const MOST_SAID: usize = 4096;

pub(super) struct Dialer {
    pub(super) server: SocketAddr,
    pub(super) message: Bytes,
}

impl Dial for Dialer {
    type Connection = Flow;

    async fn dial(&self, _: usize) -> Result<Flow, Failure> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let failed = |error| Failure::io(Stage::Connect, &error);
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
        socket.connect(self.server).await.map_err(failed)?;
        Ok(Flow {
            socket,
            message: self.message.clone(),
            answer: vec![0; self.message.len() + MOST_SAID].into(),
        })
    }
}

/// A socket of its own, and so a flow of its own.
pub(super) struct Flow {
    socket: UdpSocket,
    message: Bytes,
    answer: Box<[u8]>,
}

impl Connection for Flow {
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let sent = self.socket.send(&self.message).await;
        sent.map_err(|error| Failure::io(Stage::Send, &error))?;
        let received = self.socket.recv(&mut self.answer).await;
        let length = received.map_err(|error| Failure::io(Stage::Receive, &error))?;
        let answer = &self.answer[..length];
        let end = answer.iter().position(|octet| *octet == b'\n');
        let echoed = end.map(|end| &answer[end + 1..]);
        if echoed == Some(&*self.message) {
            Ok(length as u64)
        } else {
            Err(Failure::corrupted("the echo differs from the datagram"))
        }
    }

    async fn close(self) {}
}
