//! The command line of `load`.

use std::time::Duration;

use crate::programs::units::{parse_duration, parse_size};

use super::target::{Address, HttpTarget};

/// Measures a server, or plays one simple client.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "load")]
pub struct Options {
    /// Print one line of JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    /// Exit with status 1 when there are more errors than this.
    #[arg(long, global = true, default_value_t = 0)]
    pub max_errors: u64,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// HTTP/1.1 or h2c requests.
    Http(Http),
    /// TCP or UDP request/response: sends bytes to an echoing server and waits for them.
    Rr(RequestResponse),
    /// gRPC calls of the echo service.
    Grpc(Grpc),
    /// WebSocket ping-pong: each request is one message and its echo.
    Websocket(Websocket),
    /// TCP throughput and integrity.
    Bulk(Bulk),
    /// Opens connections and holds them.
    Hold(Hold),
    /// Reads responses slowly.
    Slow(Slow),
    /// Sends standard input (or --send) and prints what comes back.
    Tcp(Tcp),
    /// Sends datagrams to echo servers; prints a line of JSON for each.
    Udp(Udp),
    /// One HTTP request; prints the body.
    Get(Get),
}

/// How requests are issued, for every request-like subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct Issue {
    /// Connections; each has one request under way.
    #[arg(long, short = 'c', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Requests a second over all connections (open loop); as fast as answers come when absent.
    #[arg(long)]
    pub rate: Option<f64>,
    /// How long to go on.
    #[arg(long, short = 'd', value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// How many requests; replaces the duration.
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
    /// Requests that start within this time are made and not recorded.
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    pub warmup: Duration,
    /// Give up on a connection attempt or an answer after this time.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
    /// A new connection for every request.
    #[arg(long)]
    pub new_connections: bool,
    /// Threads; as many as there are CPUs (and not more than connections) when absent.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Which of a name's addresses to use.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Family {
    /// IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6 only.
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// `load http`.
#[derive(Debug, Clone, clap::Args)]
pub struct Http {
    /// An URL, `http://HOST:PORT/PATH`; port and path may be left out.
    pub url: HttpTarget,
    /// How to issue the requests.
    #[command(flatten)]
    pub issue: Issue,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// HTTP/2 with prior knowledge.
    #[arg(long)]
    pub h2: bool,
    /// Requests under way on each HTTP/2 connection.
    #[arg(long, default_value_t = 1, requires = "h2", value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: u32,
    /// Request method; POST when there is a body.
    #[arg(long, short = 'X')]
    pub method: Option<http::Method>,
    /// A header, NAME: VALUE. May be repeated.
    #[arg(long = "header", short = 'H', value_parser = parse_header)]
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Size of the request body.
    #[arg(long, value_parser = parse_size, default_value = "0")]
    pub body_size: u64,
}

/// `load rr`.
#[derive(Debug, Clone, clap::Args)]
pub struct RequestResponse {
    /// HOST:PORT of a server that echoes.
    pub address: Address,
    /// How to issue the requests.
    #[command(flatten)]
    pub issue: Issue,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// Bytes a request.
    #[arg(long, value_parser = parse_size, default_value = "64")]
    pub size: u64,
    /// Datagrams; a connection is a socket of its own then.
    #[arg(long)]
    pub udp: bool,
}

/// A method of the gRPC echo service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GrpcMethod {
    /// One message, one reply.
    Unary,
    /// One message, many replies.
    ServerStream,
    /// Many messages, one reply.
    ClientStream,
    /// Many messages, each answered before the next is sent.
    Bidi,
}

/// `load grpc`.
#[derive(Debug, Clone, clap::Args)]
pub struct Grpc {
    /// An URL, `http://HOST:PORT`; the port may be left out.
    pub url: HttpTarget,
    /// How to issue the calls.
    #[command(flatten)]
    pub issue: Issue,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// Which method to call.
    #[arg(long, value_enum, default_value = "unary")]
    pub method: GrpcMethod,
    /// Messages in each streaming call.
    #[arg(long, default_value_t = 10)]
    pub messages: u32,
    /// Metadata, NAME: VALUE. May be repeated.
    #[arg(long = "header", short = 'H', value_parser = parse_header)]
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

/// `load websocket`.
#[derive(Debug, Clone, clap::Args)]
pub struct Websocket {
    /// An URL, `http://HOST:PORT/PATH`; port and path may be left out.
    pub url: HttpTarget,
    /// How to issue the messages.
    #[command(flatten)]
    pub issue: Issue,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// Bytes a message.
    #[arg(long, value_parser = parse_size, default_value = "64")]
    pub size: u64,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// To the server, which counts.
    Send,
    /// From the server.
    Receive,
    /// Both at once on each stream: the server echoes.
    Both,
}

/// `load bulk`.
#[derive(Debug, Clone, clap::Args)]
pub struct Bulk {
    /// HOST:PORT of an echo server's shared port.
    pub address: Address,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// TCP connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: u32,
    /// Which way.
    #[arg(long, value_enum, default_value = "send")]
    pub direction: Direction,
    /// How long to go on.
    #[arg(long, short = 'd', value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// Bytes a stream and direction; replaces the duration.
    #[arg(long, value_parser = parse_size)]
    pub bytes: Option<u64>,
    /// Check every byte: SHA-256 by the server for what is sent, comparison for what is received.
    #[arg(long)]
    pub checksum: bool,
    /// Give up on a connection attempt, or when nothing moves, after this time.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
    /// Threads; as many as there are CPUs (and not more than streams) when absent.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `load hold`.
#[derive(Debug, Clone, clap::Args)]
pub struct Hold {
    /// HOST:PORT of a server that echoes.
    pub address: Address,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// Connections.
    #[arg(long, short = 'c', default_value_t = 1000)]
    pub connections: u32,
    /// Say nothing on them, neither first nor last: a peer that never begins what it was accepted for.
    #[arg(long)]
    pub silent: bool,
    /// How long to hold them; until standard input ends when absent.
    #[arg(long = "for", value_parser = parse_duration, value_name = "DURATION")]
    pub hold: Option<Duration>,
    /// Give up on a connection attempt or an echo after this time.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// `load slow`.
#[derive(Debug, Clone, clap::Args)]
pub struct Slow {
    /// An URL, `http://HOST:PORT/PATH`, of a response that is long enough.
    pub url: HttpTarget,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// Readers, each with a connection.
    #[arg(long, short = 'c', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Bytes a second that each reads.
    #[arg(long, value_parser = parse_size, default_value = "64Ki")]
    pub rate: u64,
    /// How long to go on.
    #[arg(long, short = 'd', value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// Give up on a connection attempt after this time.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// `load tcp`.
#[derive(Debug, Clone, clap::Args)]
pub struct Tcp {
    /// HOST:PORT
    pub address: Address,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// Send this text instead of standard input.
    #[arg(long)]
    pub send: Option<String>,
    /// Do not end our own stream after the input; wait for the server to end its.
    #[arg(long)]
    pub keep_open: bool,
    /// Once the server has ended its stream, send this as well and end our own.
    #[arg(long, value_name = "TEXT", requires = "keep_open")]
    pub send_after: Option<String>,
    /// Reset the connection as soon as something has come back.
    #[arg(long, conflicts_with = "send_after")]
    pub reset: bool,
    /// Give up on connecting, or when nothing comes, after this time.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// `load udp`.
#[derive(Debug, Clone, clap::Args)]
pub struct Udp {
    /// HOST:PORT of echo servers, all of which are asked from one socket.
    #[arg(required = true)]
    pub addresses: Vec<Address>,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// The port to send from; the kernel chooses when it is 0.
    #[arg(long, default_value_t = 0)]
    pub from: u16,
    /// A text that each datagram begins with, after its number.
    #[arg(long, default_value = "hello")]
    pub send: String,
    /// Octets of each datagram, if the text is shorter.
    #[arg(long, default_value_t = 0)]
    pub size: usize,
    /// Datagrams to each server.
    #[arg(long, short = 'n', default_value_t = 1)]
    pub count: u32,
    /// Time between them.
    #[arg(long, value_parser = parse_duration, default_value = "100ms")]
    pub interval: Duration,
    /// How long to wait for each answer.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    pub timeout: Duration,
    /// Instead, one datagram to each server from each of so many sockets, and no answer is waited for.
    #[arg(long, value_name = "SOCKETS")]
    pub flood: Option<u32>,
}

/// `load get`.
#[derive(Debug, Clone, clap::Args)]
pub struct Get {
    /// An URL, `http://HOST:PORT/PATH`; port and path may be left out.
    pub url: HttpTarget,
    /// Address family.
    #[command(flatten)]
    pub family: Family,
    /// HTTP/2 with prior knowledge.
    #[arg(long)]
    pub h2: bool,
    /// Request method; POST when there is data.
    #[arg(long, short = 'X')]
    pub method: Option<http::Method>,
    /// A header, NAME: VALUE. May be repeated.
    #[arg(long = "header", short = 'H', value_parser = parse_header)]
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The request body.
    #[arg(long)]
    pub data: Option<String>,
    /// Print the status and the headers too.
    #[arg(long, short = 'i')]
    pub include: bool,
    /// Fail on statuses of 400 and above.
    #[arg(long, short = 'f')]
    pub fail: bool,
    /// Give up after this time.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

fn parse_header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is not a header: write NAME: VALUE"))?;
    let name = name
        .trim()
        .parse()
        .map_err(|_| format!("{name:?} is not a header name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| format!("{value:?} is not a header value"))?;
    Ok((name, value))
}
