//! A service, its servers and sessions of a client with it, for tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ambit_telemetry::log::{Format, Logging, Sink};
use ambit_telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::Config;
use crate::ending::Ending;
use crate::io::Io;
use crate::session::Session;
use crate::{app, plain};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A connection with a service, as the waypoint sees it.
pub(crate) struct Scene {
    pub(crate) session: Arc<Session>,
    end: watch::Sender<bool>,
}

impl Scene {
    /// The service has these servers.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let vars = ["POD_NAME", "POD_NAMESPACE", "SERVICE_ACCOUNT"];
        let vars = vars.map(|name| (name.to_owned(), "waypoint".to_owned()));
        let config = Config::from_env(vars.into()).expect("a configuration");
        let logging = Logging::new(Format::Plain, "off", Sink::new(std::io::sink()));
        let (logging, _) = logging.expect("a filter");
        let index = plain::index(&app::uid(&config.mesh), LOOPBACK, servers, false);
        let (index, service) = index.expect("an index");
        let everywhere = plain::everywhere(&config, &logging, &Metrics::default(), index);
        let everywhere = everywhere.expect("an identity");
        let mut workers = app::equip(&config, &[Handle::current()], &everywhere);
        let (_, shared) = workers.pop().expect("a worker");
        let (end, ending) = watch::channel(false);
        Self {
            session: plain::session(&shared, &service, LOOPBACK, Ending::new(ending)),
            end,
        }
    }

    /// Its connections are to end.
    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }
}

/// Both ends of a connection; the first is the client's.
pub(crate) async fn connection() -> (TcpStream, Io) {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (server, _) = accepted.expect("accepted");
    (client.expect("connected"), Io::Tcp(server))
}

/// A server of HTTP/1.1 that answers every request alike, when it may.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Heads that have come.
    pub(crate) arrived: mpsc::UnboundedReceiver<()>,
    /// Answers that it may give.
    pub(crate) answers: Arc<Semaphore>,
}

impl Server {
    pub(crate) async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (told, arrived) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let allowed = answers.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer, told.clone(), allowed.clone()));
            }
        });
        Self {
            address,
            arrived,
            answers,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &'static str,
    told: mpsc::UnboundedSender<()>,
    allowed: Arc<Semaphore>,
) {
    while head(&mut stream).await.is_some() {
        let _ = told.send(());
        allowed.acquire().await.expect("open").forget();
        let written = stream.write_all(answer.as_bytes()).await;
        written.expect("written");
    }
}

/// Reads to the end of a head; `None` when the connection ends before.
pub(crate) async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
