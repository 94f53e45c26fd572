//! Peers of the mesh by hand. One opens a tunnel with whatever certificate it is told to have, or asks the
//! certificate authority for one, and says in one line of JSON what came of it: the tests run it where no
//! proxy is in its way, to do what a proxy must refuse. The others are what waypoints call: an authorizer, a
//! collector of spans; a DNS server; or they carry bytes between a test and a pod's network, so that the test is an end of a
//! connection of the pod.

#![forbid(unsafe_code)]

mod authorizer;
mod carry;
mod collector;
mod forge;
mod issue;
mod names;
mod sign;
mod tunnel;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Plays a peer of the mesh by hand.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open a tunnel.
    Tunnel(Tunnel),
    /// Ask the certificate authority for a certificate of an identity.
    Sign(Sign),
    /// Write a certificate to files.
    Issue(Issue),
    /// Say who may pass.
    Authorize(Authorize),
    /// Take spans.
    Collect(Collect),
    /// Answer DNS questions.
    Names(Names),
    /// Carry what a test sends over a Unix socket to where its first line says.
    Dial(Dial),
    /// Carry connections to a Unix socket, where a test answers them.
    Serve(Serve),
}

/// An authorizer.
#[derive(Debug, Args)]
struct Authorize {
    /// The port of gRPC.
    #[arg(long, default_value_t = 9000)]
    grpc: u16,
    /// The port of HTTP.
    #[arg(long, default_value_t = 8000)]
    http: u16,
}

/// A collector.
#[derive(Debug, Args)]
struct Collect {
    /// The port of gRPC.
    #[arg(long, default_value_t = 4317)]
    grpc: u16,
    /// The port that shows the spans.
    #[arg(long, default_value_t = 8080)]
    http: u16,
}

/// A DNS server.
#[derive(Debug, Args)]
struct Names {
    /// Its port.
    #[arg(long, default_value_t = 53)]
    port: u16,
}

/// Connections that a test opens by hand.
#[derive(Debug, Args)]
struct Dial {
    /// Where the test connects.
    socket: PathBuf,
    /// With TLS as a peer of the mesh does.
    #[arg(long)]
    tls: bool,
    #[command(flatten)]
    certificate: Certificate,
}

/// Connections that a test answers by hand.
#[derive(Debug, Args)]
struct Serve {
    /// Where they arrive.
    port: u16,
    /// Where the test listens.
    socket: PathBuf,
}

/// A certificate in files.
#[derive(Debug, Args)]
struct Issue {
    /// Where `chain.pem`, `key.pem` and `root.pem` are written.
    folder: PathBuf,
    #[command(flatten)]
    certificate: Certificate,
}

/// One tunnel.
#[derive(Debug, Args)]
struct Tunnel {
    /// Where the proxy listens.
    to: SocketAddr,
    #[command(flatten)]
    certificate: Certificate,
    /// The request's method.
    #[arg(long, default_value = "CONNECT")]
    method: http::Method,
    /// The request's authority; the same address, port 8080, when absent.
    #[arg(long)]
    authority: Option<String>,
    /// What is sent through the tunnel once it is open.
    #[arg(long, default_value = "")]
    send: String,
}

/// The certificate of a tunnel's client.
#[derive(Debug, Args)]
struct Certificate {
    /// The folder of the mesh's certificate authority.
    #[arg(long, default_value = "/ca")]
    ca: PathBuf,
    /// A URI of the certificate. May be repeated; no certificate when absent.
    #[arg(long = "identity")]
    identities: Vec<String>,
    /// It has expired an hour ago.
    #[arg(long)]
    expired: bool,
    /// Signed by a root of its own.
    #[arg(long)]
    own_root: bool,
}

/// One request for a certificate.
#[derive(Debug, Args)]
struct Sign {
    /// The authority, as `https://HOST:PORT`.
    authority: String,
    /// The name in the authority's certificate.
    #[arg(long)]
    server_name: String,
    /// The file of the root certificates.
    #[arg(long)]
    roots: PathBuf,
    /// The file of the token.
    #[arg(long)]
    token: PathBuf,
    /// The identity, a SPIFFE URI.
    #[arg(long)]
    identity: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let outcome = match Cli::parse().command {
        Command::Tunnel(options) => tunnel::open(&options).await?,
        Command::Sign(options) => sign::ask(&options).await?,
        Command::Issue(options) => return issue::write(&options),
        Command::Authorize(options) => return authorizer::serve(&options).await,
        Command::Collect(options) => return collector::serve(&options).await,
        Command::Names(options) => return names::serve(options.port).await,
        Command::Dial(options) => return carry::dial(options).await,
        Command::Serve(options) => return carry::serve(options).await,
    };
    writeln!(std::io::stdout(), "{outcome}")?;
    Ok(())
}
