//! The engine without a mesh around it: plain connections of a client that nobody has verified, plain connections to
//! one server. What it costs can so be compared with proxies that know no mesh. The program `waypoint` has no way
//! to this.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_core::convert;
use ambit_core::index::Index;
use ambit_core::model::{AppProtocol, Service};
use ambit_core::plan::{BoundTo, GatewayTarget};
use ambit_net::revocation::Revocations;
use ambit_proto::workload;
use ambit_proto::workload::address::Type;
use ambit_proxy::{Denials, Published, Whose, Workers};
use ambit_telemetry::log::Logging;
use ambit_telemetry::metrics::Metrics;
use ambit_telemetry::requests::RequestLog;
use anyhow::Context;
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::app::{self, Everywhere};
use crate::config::Config;
use crate::ending::Ending;
use crate::http::{self, Common, Telemetry, Version};
use crate::io::Io;
use crate::session::{Caller, Session};
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// Serves clients at `listen` with what the server at `backend` says, over HTTP/1.1 or over h2c both ways, until the
/// process ends.
///
/// # Errors
/// What could not be started.
pub async fn run(
    config: Config,
    logging: &Logging,
    metrics: &Metrics,
    listen: SocketAddr,
    backend: SocketAddr,
    h2c: bool,
) -> anyhow::Result<()> {
    let (index, service) = index(&app::uid(&config.mesh), listen, &[backend], h2c)?;
    let everywhere = everywhere(&config, logging, metrics, index)?;
    let workers = Workers::start(config.workers)?;
    let (_never, ending) = watch::channel(false);
    for (worker, shared) in app::equip(&config, workers.handles(), &everywhere) {
        let _entered = worker.enter();
        let sockets = ambit_net::sys::Sockets::default();
        let listener = sockets.listen(listen, ambit_net::sys::Listen::Plain)?;
        let ending = Ending::new(ending.clone());
        worker.spawn(serve(listener, shared, service.clone(), h2c, ending));
    }
    std::future::pending().await
}

/// What workers share where nobody tells them of changes.
pub(crate) fn everywhere(
    config: &Config,
    logging: &Logging,
    metrics: &Metrics,
    index: Index,
) -> anyhow::Result<Everywhere> {
    let me = app::identity(&config.mesh)?;
    let control = &config.control_plane;
    let (certificates, _) = control.certificates(&config.mesh, &Whose::Own, Revocations::default());
    Ok(Everywhere {
        certificate: certificates.want(&me),
        me,
        current: Arc::new(Published::new(Snapshot {
            index,
            ..Snapshot::default()
        })),
        policies: watch::channel(()).1,
        common: Arc::new(Common::new(Telemetry {
            log: RequestLog::new(logging),
            metrics: metrics.requests().clone(),
            connections: metrics.traffic().clone(),
            tracing: None,
            exemplars: false,
            denials: Denials::default(),
        })),
        clusters: Arc::default(),
        sessions: Arc::default(),
    })
}

async fn serve(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    service: Arc<Service>,
    h2c: bool,
    ending: Ending,
) {
    let version = if h2c { Version::Http2 } else { Version::Http1 };
    while let Ok((stream, peer)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let session = session(&shared, &service, peer, ending.clone());
        tokio::spawn(http::serve(session, Io::Tcp(stream), Bytes::new(), version));
    }
}

/// A connection of the service's from `peer`.
pub(crate) fn session(
    shared: &Arc<Shared>,
    service: &Arc<Service>,
    peer: SocketAddr,
    ending: Ending,
) -> Arc<Session> {
    let caller = Caller {
        identity: shared.me.clone(),
        address: peer,
        workload: None,
    };
    let target = GatewayTarget {
        bound: BoundTo::Service(service.clone()),
        address: SocketAddr::new(peer.ip(), PORT),
        protocol: AppProtocol::Unknown,
        services: vec![service.key.clone()],
    };
    Session::new(caller, target, shared.clone(), ending, Arc::default())
}

/// Of the service.
const PORT: u16 = 80;

/// A service whose endpoints have no tunnels, and the proxy itself.
pub(crate) fn index(
    uid: &str,
    listen: SocketAddr,
    backends: &[SocketAddr],
    h2c: bool,
) -> anyhow::Result<(Index, Arc<Service>)> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    let port = |target: u16| workload::Port {
        service_port: PORT.into(),
        target_port: target.into(),
        app_protocol: match h2c {
            true => workload::AppProtocol::Http2.into(),
            false => workload::AppProtocol::Http11.into(),
        },
    };
    let service = workload::Service {
        name: "server".to_owned(),
        namespace: "bench".to_owned(),
        hostname: "server.bench.svc.cluster.local".to_owned(),
        ports: vec![port(0)],
        ..workload::Service::default()
    };
    let pod = |uid: &str, name: &str, ip: IpAddr| workload::Workload {
        uid: uid.to_owned(),
        name: name.to_owned(),
        namespace: "bench".to_owned(),
        addresses: vec![bytes(ip)],
        ..workload::Workload::default()
    };
    let key = "bench/server.bench.svc.cluster.local";
    let server = |(number, backend): (usize, &SocketAddr)| {
        let name = format!("server-{number}");
        let uid = format!("Kubernetes//Pod/bench/{name}");
        let mut server = pod(&uid, &name, backend.ip());
        let ports = vec![port(backend.port())];
        server
            .services
            .insert(key.to_owned(), workload::PortList { ports });
        (uid, Type::Workload(server))
    };
    // Both may be on one machine; nobody looks the proxy up by its address.
    let mut me = pod(uid, "proxy", listen.ip());
    me.addresses.clear();
    let mut index = Index::new("istio-system");
    let proxy = [
        (uid.to_owned(), Type::Workload(me)),
        (key.to_owned(), Type::Service(service)),
    ];
    for (name, of) in backends.iter().enumerate().map(server).chain(proxy) {
        let body = workload::Address { r#type: Some(of) }.encode_to_vec();
        index.apply(convert::address_change(&name, &body)?);
    }
    let known = index.services().next().cloned();
    Ok((index, known.context("the service is not known")?))
}
