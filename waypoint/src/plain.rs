//! The engine without a mesh around it: plain connections of a client that nobody has verified, plain connections to
//! one server. What it costs can so be compared with proxies that know no mesh. The program `waypoint` has no way
//! to this.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_core::convert;
use ambit_core::index::Index;
use ambit_core::model::{AppProtocol, Service};
use ambit_core::plan::{BoundTo, GatewayTarget};
use ambit_proto::workload;
use ambit_proxy::Workers;
use ambit_telemetry::log::Logging;
use ambit_telemetry::metrics::Metrics;
use ambit_telemetry::requests::RequestLog;
use anyhow::Context;
use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::app::{self, Everywhere};
use crate::config::Config;
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
    let mesh = &config.mesh;
    let me = app::identity(mesh)?;
    let uid = app::uid(mesh);
    let (index, service) = index(&uid, listen, backend, h2c)?;
    let (certificates, _) = config.control_plane.certificates(&mesh.cluster_id);
    let everywhere = Everywhere {
        me: me.clone(),
        certificate: certificates.want(&me),
        current: Arc::new(ArcSwap::from_pointee(Snapshot {
            index,
            ..Snapshot::default()
        })),
        policies: watch::channel(()).1,
        common: Arc::new(Common::new(Telemetry {
            log: RequestLog::new(logging),
            metrics: metrics.requests().clone(),
            connections: metrics.traffic().clone(),
            tracing: None,
        })),
        clusters: Arc::default(),
        sessions: Arc::default(),
    };
    let workers = Workers::start(config.workers)?;
    for (worker, shared) in app::equip(&config, &workers, &everywhere) {
        let _entered = worker.enter();
        let sockets = ambit_net::sys::Sockets::default();
        let listener = sockets.listen(listen, ambit_net::sys::Listen::Plain)?;
        worker.spawn(serve(listener, shared, service.clone(), h2c));
    }
    std::future::pending().await
}

async fn serve(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    service: Arc<Service>,
    h2c: bool,
) {
    let version = if h2c { Version::Http2 } else { Version::Http1 };
    while let Ok((stream, peer)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
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
        let session = Session::new(caller, target, shared.clone(), Arc::default());
        tokio::spawn(http::serve(session, Io::Tcp(stream), Bytes::new(), version));
    }
}

/// Of the service.
const PORT: u16 = 80;

/// A service with one endpoint that has no tunnel, and the proxy itself.
fn index(
    uid: &str,
    listen: SocketAddr,
    backend: SocketAddr,
    h2c: bool,
) -> anyhow::Result<(Index, Arc<Service>)> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    let port = workload::Port {
        service_port: PORT.into(),
        target_port: backend.port().into(),
        app_protocol: match h2c {
            true => workload::AppProtocol::Http2.into(),
            false => workload::AppProtocol::Http11.into(),
        },
    };
    let service = workload::Service {
        name: "server".to_owned(),
        namespace: "bench".to_owned(),
        hostname: "server.bench.svc.cluster.local".to_owned(),
        ports: vec![port],
        ..workload::Service::default()
    };
    let pod = |uid: &str, name: &str, ip: IpAddr| workload::Workload {
        uid: uid.to_owned(),
        name: name.to_owned(),
        namespace: "bench".to_owned(),
        addresses: vec![bytes(ip)],
        ..workload::Workload::default()
    };
    let mut server = pod("Kubernetes//Pod/bench/server", "server", backend.ip());
    let ports = workload::PortList { ports: vec![port] };
    let key = "bench/server.bench.svc.cluster.local";
    server.services.insert(key.to_owned(), ports);
    // Both may be on one machine; nobody looks the proxy up by its address.
    let mut me = pod(uid, "proxy", listen.ip());
    me.addresses.clear();
    use workload::address::Type;
    let mut index = Index::new("istio-system");
    for (name, of) in [
        (uid, Type::Workload(me)),
        ("Kubernetes//Pod/bench/server", Type::Workload(server)),
        (key, Type::Service(service)),
    ] {
        let body = workload::Address { r#type: Some(of) }.encode_to_vec();
        index.apply(convert::address_change(name, &body)?);
    }
    let known = index.services().next().cloned();
    Ok((index, known.context("the service is not known")?))
}
