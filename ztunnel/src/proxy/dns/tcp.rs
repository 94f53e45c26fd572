//! Questions in a connection, each with its length before it (RFC 1035, section 4.2.2; RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::dns::{Malformed, Query};
use ambit_net::sys;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::PodProxy;
use super::tally::Tally;
use super::{Look, Transport, fail, look, reply, upstream};

/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(10);

/// Answers one client, a question at a time. It counts as one open question for as long as it is connected.
pub(super) async fn serve(proxy: Arc<PodProxy>, stream: TcpStream, client: SocketAddr) {
    let asked = sys::original_dst(&stream);
    let result = match proxy.pod.admit_question() {
        Ok(_permit) => converse(&proxy, stream, asked).await,
        Err(failure) => {
            sys::reset(stream);
            Err(io::Error::other(failure.to_string()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(pod = %proxy.pod.name, %client, %error, "a DNS client is gone");
    }
}

async fn converse(
    proxy: &PodProxy,
    mut stream: TcpStream,
    asked: io::Result<SocketAddr>,
) -> io::Result<()> {
    let mut drained = proxy.drained.clone();
    loop {
        let message = tokio::select! {
            message = timeout(IDLE, read(&mut stream)) => message,
            () = drained.begun() => return Ok(()),
        };
        let Ok(Some(message)) = message.unwrap_or(Ok(None)) else {
            return Ok(());
        };
        let reply = match Query::parse(&message) {
            Ok(query) if query.is_transfer() => match transfer(proxy, &query, &asked).await {
                Ok(mut resolver) => {
                    copy_bidirectional(&mut stream, &mut resolver).await?;
                    return Ok(());
                }
                Err(reply) => reply,
            },
            Ok(query) => {
                let mut tally = Tally::begin(proxy, Transport::Tcp, &query);
                match look(proxy, &query, Transport::Tcp, &mut tally) {
                    Look::Answer(reply) => {
                        tally.answered(&query, &reply);
                        reply
                    }
                    looked => reply(proxy, &query, Transport::Tcp, looked, &asked, tally).await,
                }
            }
            Err(Malformed::Refused(reply)) => reply,
            Err(Malformed::Ignored) => return Ok(()),
        };
        timeout(IDLE, write(&mut stream, &reply)).await??;
    }
}

/// A zone is many messages, so that the rest of the connection is between the client and the resolver that it asked: the connection to
/// that, or why there is none.
async fn transfer(
    proxy: &PodProxy,
    query: &Query,
    asked: &io::Result<SocketAddr>,
) -> Result<TcpStream, Vec<u8>> {
    let mut tally = Tally::begin(proxy, Transport::Tcp, query);
    tally.forwarded();
    let limit = proxy.shared.settings().dns.timeout;
    match upstream::transfer(&proxy.pod.sockets, query, asked, limit).await {
        Ok(resolver) => {
            tally.passed_on(query, &[]);
            Ok(resolver)
        }
        Err(failure) => Err(fail(query, &failure, tally)),
    }
}

/// The next message; `None` at the end.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

pub(super) async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}
