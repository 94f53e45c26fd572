//! HTTP/2 by hand (RFC 9113 section 4.1), for what no client of ours does and what none shows.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_net::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Ca, ids};

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
/// The flag ACK of SETTINGS and PING.
pub const ACK: u8 = 1;
/// The flag END_HEADERS.
pub const WHOLE: u8 = 4;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a peer may take that has something to say.
const LIMIT: Duration = Duration::from_secs(20);

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// The 32 bits there in the payload.
    pub fn word(&self, at: usize) -> u32 {
        let word = self.payload[at..at + 4].try_into().expect("four octets");
        u32::from_be_bytes(word)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// What asks for a tunnel, without indexing and Huffman's code (RFC 7541 section 6.2.2).
pub fn connect(stream: u32, authority: &str) -> Frame {
    let mut block = vec![0x02, 7];
    block.extend(b"CONNECT");
    block.extend([0x01, u8::try_from(authority.len()).expect("short")]);
    block.extend(authority.as_bytes());
    Frame::new(HEADERS, WHOLE, stream, block)
}

/// Reads one frame; none when the connection has ended.
pub async fn read(stream: &mut tls::Stream) -> Option<Frame> {
    let read = tokio::time::timeout(LIMIT, read_whole(stream)).await;
    read.expect("a frame, or the end, in time")
}

async fn read_whole(stream: &mut tls::Stream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream_id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame::new(
        kind,
        flags,
        u32::from_be_bytes(stream_id),
        payload,
    ))
}

pub async fn write(stream: &mut tls::Stream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("room");
    stream.flush().await.expect("sent");
}

/// TLS to `server` there as `client`, without a word of HTTP/2.
pub async fn secured(ca: &Ca, client: &str, server: &str, address: SocketAddr) -> tls::Stream {
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let config = ca.certified(client).client_config(&ids(&[server]));
    let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
    let config = config.expect("a configuration");
    tls::Stream::connect(tcp, config, name).await.expect("TLS")
}
