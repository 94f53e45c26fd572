//! Datagrams to an `echo`, one after the other, and what comes of each: a line of JSON.

use std::io::{self, Write as _};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use super::options::Udp;
use super::target;

/// True when each datagram was answered, or, if none is waited for, was sent.
pub(super) fn run(arguments: &Udp) -> anyhow::Result<bool> {
    let mut targets = Vec::new();
    for address in &arguments.addresses {
        let resolved = target::resolve(address, arguments.family, arguments.timeout)?;
        let first = resolved.addresses().first().copied();
        targets.push(first.with_context(|| format!("{address} has no address"))?);
    }
    if let Some(flows) = arguments.flood {
        return flood(&targets, flows);
    }
    let socket = bind(arguments.from)?;
    let mut well = true;
    for number in 0..arguments.count {
        if number > 0 {
            std::thread::sleep(arguments.interval);
        }
        for target in &targets {
            let mut payload = format!("{number} {}", arguments.send).into_bytes();
            payload.resize(payload.len().max(arguments.size), b'.');
            let answer = ask(&socket, *target, &payload, arguments.timeout)?;
            well &= answer.is_some();
            let line = json!({"to": target, "answer": answer});
            let mut out = io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()?;
        }
    }
    Ok(well)
}

/// Of both families.
fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    socket.bind(&any.into())?;
    Ok(socket.into())
}

fn mapped(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 => v6,
    }
}

/// What the echo says of it, if it sends it back whole and in its own name in time.
fn ask(
    socket: &UdpSocket,
    target: SocketAddr,
    payload: &[u8],
    timeout: Duration,
) -> anyhow::Result<Option<Value>> {
    socket.send_to(payload, mapped(target))?;
    let until = Instant::now() + timeout;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let reply = &buffer[..length];
        let Some(end) = reply.iter().position(|octet| *octet == b'\n') else {
            continue;
        };
        if from == mapped(target) && &reply[end + 1..] == payload {
            return Ok(Some(serde_json::from_slice(&reply[..end])?));
        }
    }
}

/// A datagram from each of so many sockets, and nothing is waited for.
fn flood(targets: &[SocketAddr], flows: u32) -> anyhow::Result<bool> {
    for _ in 0..flows {
        let socket = bind(0)?;
        for target in targets {
            socket.send_to(b"flood", mapped(*target))?;
        }
    }
    Ok(true)
}
