//! Listens on a node's link and says what an eavesdropper learns.

use std::io::Read;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::capture::{self, HEADER, Handshake};
use crate::cli::line;
use crate::harness::{Lab, program};

/// How long late frames are waited for.
const LATE: Duration = Duration::from_millis(200);
/// Where node proxies talk to each other.
const HBONE: u16 = 15008;

/// A capture that runs.
pub(super) struct Tap {
    process: Child,
    reader: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl Tap {
    /// Starts to listen on the link of `node`; returns when it does.
    pub(super) fn start(lab: &Lab, node: &str) -> anyhow::Result<Self> {
        let lab_program = program("lab");
        let mut command = Command::new(&lab_program);
        command
            .args(["--name", lab.name(), "exec", &format!("node/{node}"), "--"])
            .arg(&lab_program)
            .args(["__capture", "eth0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot listen on the wire")?;
        let mut out = process.stdout.take().context("standard output is piped")?;
        let mut header = [0; HEADER.len()];
        out.read_exact(&mut header)
            .context("cannot listen on the wire")?;
        let reader = std::thread::spawn(move || {
            let mut file = header.to_vec();
            out.read_to_end(&mut file).map(|_| file)
        });
        Ok(Self { process, reader })
    }

    /// Ends the capture and returns its file.
    pub(super) fn stop(mut self) -> anyhow::Result<Vec<u8>> {
        // Connections are closed by now, but their last frames may still be on their way.
        std::thread::sleep(LATE);
        self.process.kill()?;
        self.process.wait()?;
        match self.reader.join() {
            Ok(file) => Ok(file?),
            Err(_) => bail!("the reader of the capture panicked"),
        }
    }
}

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
