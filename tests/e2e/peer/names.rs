//! A DNS server of its own opinions: every name has a text that says who asked and how, `nothing.` does not exist, `silent.` is never
//! answered, `long.` has more to say than fits into a datagram. Zones are given away, in two messages. A name like `10-1-2-3.` has that
//! address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{SOA, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const LIFETIME: u32 = 77;
const LINES_OF_LONG: usize = 30;

pub(super) async fn serve(port: u16) -> anyhow::Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (socket, listener) = (UdpSocket::bind(any).await?, TcpListener::bind(any).await?);
    tokio::try_join!(datagrams(socket), connections(listener))?;
    Ok(())
}

async fn datagrams(socket: UdpSocket) -> anyhow::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await?;
        let question = Message::from_vec(&buffer[..length])?;
        let Some(reply) = reply(&question, client.ip(), "udp") else {
            continue;
        };
        let limit = usize::from(question.max_payload());
        let whole = reply.to_vec()?;
        let bytes = if whole.len() > limit {
            reply.truncate().to_vec()?
        } else {
            whole
        };
        socket.send_to(&bytes, client).await?;
    }
}

async fn connections(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, client) = listener.accept().await?;
        // A client that leaves is no matter.
        tokio::spawn(async move { converse(stream, client.ip()).await.ok() });
    }
}

async fn converse(mut stream: TcpStream, client: IpAddr) -> anyhow::Result<()> {
    loop {
        let mut question = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut question).await?;
        let question = Message::from_vec(&question)?;
        let Some(reply) = reply(&question, client, "tcp") else {
            continue;
        };
        let replies = match question.queries[0].query_type() {
            RecordType::AXFR => zone(reply),
            _ => vec![reply],
        };
        for reply in replies {
            let bytes = reply.to_vec()?;
            stream.write_u16(bytes.len().try_into()?).await?;
            stream.write_all(&bytes).await?;
        }
    }
}

/// A reply as a zone, which begins and ends with the same record.
fn zone(mut first: Message) -> Vec<Message> {
    let name = first.queries[0].name().clone();
    let begin = RData::SOA(SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 1));
    let begin = Record::from_rdata(name, LIFETIME, begin);
    let mut last = first.clone();
    first.answers.insert(0, begin.clone());
    last.answers = vec![begin];
    vec![first, last]
}

fn reply(question: &Message, client: IpAddr, protocol: &str) -> Option<Message> {
    let mut reply = Message::query();
    reply.metadata = Metadata::response_from_request(&question.metadata);
    reply.edns.clone_from(&question.edns);
    let query = question.queries.first()?;
    reply.add_query(query.clone());
    let name = query.name().to_lowercase().to_ascii();
    let client = client.to_canonical();
    let lines = match &*name {
        "silent." => return None,
        "nothing." => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            0
        }
        "refused." => {
            reply.metadata.response_code = ResponseCode::Refused;
            0
        }
        "long." => LINES_OF_LONG,
        _ => 1,
    };
    let label = name.split('.').next().unwrap_or_default();
    if let Ok(address) = label.replace('-', ".").parse::<Ipv4Addr>() {
        if query.query_type() == RecordType::A {
            let data = RData::A(address.into());
            reply.add_answer(Record::from_rdata(query.name().clone(), LIFETIME, data));
        }
        return Some(reply);
    }
    for line in 0..lines {
        let text = format!("line {line}: {client} asked by {protocol}");
        let data = RData::TXT(TXT::new(vec![text]));
        reply.add_answer(Record::from_rdata(query.name().clone(), LIFETIME, data));
    }
    Some(reply)
}
