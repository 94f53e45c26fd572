//! `echo`: a server that answers with all it received.
//!
//! One port speaks HTTP/1.1, h2c, gRPC, WebSocket and raw TCP, told apart by the first bytes, and answers datagrams; a port can also be given one
//! fixed TCP mode for clients that wait for the server to speak first. See [`behaviour`] for what a request can ask for
//! and [`command`] for the TCP modes. gRPC's health service answers as `/health` was told.

pub mod behaviour;
mod body;
pub mod command;
mod detect;
mod failures;
mod grpc;
mod health;
mod http;
mod listen;
mod received;
mod requests;
mod socket;
mod stats;
mod tcp;
mod udp;
mod websocket;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use command::Mode;

/// What the command line says.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "echo",
    about = "Answers with all it received: HTTP/1.1, h2c, gRPC, WebSocket and raw TCP"
)]
pub struct Options {
    /// Where to listen: PORT tells the protocols apart by their first bytes, MODE=PORT serves one TCP mode
    /// (echo, discard, count, sum, source, info, half-close, reset, hang). May be repeated.
    #[arg(long = "port", value_name = "[MODE=]PORT", default_value = "8080")]
    pub ports: Vec<PortOption>,
    /// The address to listen on; the default takes IPv4 and IPv6.
    #[arg(long, default_value_t = IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
    pub address: IpAddr,
    /// The version that answers name.
    #[arg(long, env = "VERSION_LABEL")]
    pub version_label: Option<String>,
    /// The pod's name.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// The pod's namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Answers every request that does not ask for a status with this one.
    #[arg(long)]
    pub status: Option<::http::StatusCode>,
    /// Worker threads; as many as there are CPUs when absent.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// One `--port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortOption {
    /// The fixed mode, or none to tell by the first bytes.
    pub mode: Option<Mode>,
    /// The port; zero lets the kernel choose.
    pub port: u16,
}

impl FromStr for PortOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mode, port) = match text.split_once('=') {
            Some((mode, port)) => (Some(mode.parse::<Mode>()?), port),
            None => (None, text),
        };
        let port = port
            .parse()
            .map_err(|_| format!("{port:?} is not a port number"))?;
        Ok(Self { mode, port })
    }
}

/// What all connections of this process share.
#[derive(Debug)]
struct Process {
    hostname: String,
    pod: Option<String>,
    namespace: Option<String>,
    version: Option<String>,
    status: Option<::http::StatusCode>,
    failures: failures::Failures,
    health: health::Health,
    stats: stats::Stats,
    requests: requests::Requests,
}

/// The bound listeners, not yet serving.
#[derive(Debug)]
pub struct Server {
    process: Arc<Process>,
    listeners: Vec<(Option<Mode>, tokio::net::TcpListener)>,
    datagrams: Vec<tokio::net::UdpSocket>,
}

impl Server {
    /// Binds every port; the error names the port that failed.
    pub fn bind(options: &Options) -> std::io::Result<Self> {
        let hostname = nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let process = Arc::new(Process {
            hostname,
            pod: options.pod_name.clone(),
            namespace: options.pod_namespace.clone(),
            version: options.version_label.clone(),
            status: options.status,
            failures: failures::Failures::default(),
            health: health::Health::default(),
            stats: stats::Stats::default(),
            requests: requests::Requests::default(),
        });
        let (mut listeners, mut datagrams) = (Vec::new(), Vec::new());
        for port in &options.ports {
            let address = SocketAddr::new(options.address, port.port);
            let failed = |error: std::io::Error| {
                std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            };
            let listener = listen::bind(address).map_err(failed)?;
            if port.mode.is_none() {
                let same = listener.local_addr()?;
                datagrams.push(udp::bind(same).map_err(failed)?);
            }
            listeners.push((port.mode, listener));
        }
        Ok(Self {
            process,
            listeners,
            datagrams,
        })
    }

    /// Where each `--port` listens, in their order.
    pub fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.listeners
            .iter()
            .map(|(_, listener)| listener.local_addr())
            .collect()
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let mut accepting = tokio::task::JoinSet::new();
        for (mode, listener) in self.listeners {
            accepting.spawn(listen::accept(self.process.clone(), mode, listener));
        }
        for socket in self.datagrams {
            accepting.spawn(udp::serve(self.process.clone(), socket));
        }
        while accepting.join_next().await.is_some() {}
    }
}
