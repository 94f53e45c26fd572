//! The cluster's DNS: one server on every node, at the cluster DNS service's addresses.

mod answer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ambit_net::sys::{Listen, Sockets};
use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cluster::{Cluster, LabNode};
use crate::net::plan;

const PORT: u16 = 53;
/// The longest question worth reading.
const LONGEST_QUESTION: usize = 4096;
/// How long a TCP client may say nothing.
const IDLE: Duration = Duration::from_secs(10);

/// Serves the names of the cluster on `node`.
///
/// # Errors
/// When the addresses cannot be listened on.
pub fn serve(cluster: &Arc<Cluster>, node: &LabNode) -> io::Result<()> {
    for address in plan::dns().both() {
        let address = SocketAddr::new(address, PORT);
        let socket = node
            .netns
            .netns()
            .run(|| std::net::UdpSocket::bind(address))?;
        socket.set_nonblocking(true)?;
        tokio::spawn(serve_udp(Arc::clone(cluster), UdpSocket::from_std(socket)?));
        let sockets = Sockets {
            netns: Some(node.netns.netns().clone()),
            mark: None,
        };
        let listener = sockets.listen(address, Listen::Plain)?;
        tokio::spawn(serve_tcp(Arc::clone(cluster), listener));
    }
    Ok(())
}

async fn serve_udp(cluster: Arc<Cluster>, socket: UdpSocket) {
    let mut buffer = vec![0; LONGEST_QUESTION];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Ok(question) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let limit = usize::from(question.max_payload());
        let answer = reply(&cluster, &question, client.ip());
        let whole = answer.to_vec().ok();
        let fitting = whole.filter(|bytes| bytes.len() <= limit);
        // Too long for a datagram: the client asks again by TCP.
        let bytes = fitting.or_else(|| answer.truncate().to_vec().ok());
        if let Some(bytes) = bytes
            && let Err(error) = socket.send_to(&bytes, client).await
        {
            tracing::debug!(%client, %error, "cannot answer a DNS client");
        }
    }
}

async fn serve_tcp(cluster: Arc<Cluster>, listener: TcpListener) {
    loop {
        if let Ok((stream, client)) = listener.accept().await {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move {
                if let Err(error) = converse(&cluster, stream, client.ip()).await {
                    tracing::debug!(%client, %error, "a DNS client left");
                }
            });
        }
    }
}

/// Questions and answers with their lengths before them (RFC 1035, section 4.2.2).
async fn converse(cluster: &Cluster, mut stream: TcpStream, client: IpAddr) -> io::Result<()> {
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => return Ok(()),
        };
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        let question = Message::from_vec(&question).map_err(io::Error::other)?;
        let answer = reply(cluster, &question, client)
            .to_vec()
            .map_err(io::Error::other)?;
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes(), &answer[..]].concat())
            .await?;
    }
}

fn reply(cluster: &Cluster, question: &Message, client: IpAddr) -> Message {
    let reply = cluster.read(|store| answer::answer(store, question));
    tracing::debug!(%client, questions = ?question.queries, code = %reply.metadata.response_code, "dns");
    reply
}
