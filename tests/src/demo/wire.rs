//! What an eavesdropper on a node's link learns.

use std::net::IpAddr;

use anyhow::ensure;

use crate::capture::{self, Handshake};
use crate::cli::line;

/// Where node proxies talk to each other.
const HBONE: u16 = 15008;

/// Prints what the pods' traffic looks like on the wire, and fails when more than TLS 1.3 is seen.
pub(super) fn report(file: &[u8], secret: &str) -> anyhow::Result<()> {
    let count = capture::frames(file).count();
    let mut connections = 0;
    let (mut records, mut bytes) = (0, 0);
    for (direction, stream) in capture::streams(file) {
        if !is_pod(direction.from.ip()) || !is_pod(direction.to.ip()) || stream.is_empty() {
            continue;
        }
        let seen = capture::inspect(&stream);
        let tunnel = direction.from.port() == HBONE || direction.to.port() == HBONE;
        ensure!(
            tunnel && seen.only_tls,
            "{} -> {} is not TLS: {:?}",
            direction.from,
            direction.to,
            String::from_utf8_lossy(&stream[..stream.len().min(60)])
        );
        ensure!(
            seen.handshake != Some(Handshake::ServerHelloOther),
            "{} chose something older than TLS 1.3",
            direction.from
        );
        connections += usize::from(seen.handshake == Some(Handshake::ServerHelloTls13));
        records += seen.encrypted;
        bytes += stream.len();
    }
    ensure!(
        connections > 0,
        "no TLS 1.3 handshake was seen in {count} frames"
    );
    let leaked = capture::contains(file, secret.as_bytes());
    line(&format!(
        "   {count} frames; between pods: {connections} TLS 1.3 handshake(s) to port {HBONE},"
    ));
    line(&format!(
        "   {records} encrypted records in {bytes} bytes, and nothing else"
    ));
    line(&format!(
        "   the secret on the wire: {}",
        if leaked { "READABLE" } else { "not found" }
    ));
    ensure!(!leaked, "the secret could be read between the nodes");
    Ok(())
}

/// Whether an address is a pod's.
fn is_pod(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..2] == [10, 244],
        IpAddr::V6(address) => address.segments()[..3] == [0xfd00, 0x10, 0x244],
    }
}
