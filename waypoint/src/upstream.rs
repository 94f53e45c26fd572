//! Endpoints of services, and connections to them: tunnels as the waypoint, with word of the caller.

mod roots;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::addr::NamespacedName;
use ambit_core::hbone::{self, Forwarded};
use ambit_core::model::{AppProtocol, Workload};
use ambit_core::plan::{self, HBONE_PORT, Upstream};
use ambit_http::balance::Wish;
use ambit_http::breaker::Kind;
use ambit_http::cluster::{self, Cluster, Clusters, View};
use ambit_http::refusal::{Flag, Refusal};
use ambit_net::ca::Wanted;
use ambit_net::hbone::{Duplex, Pool, Target};
use ambit_net::sys::Sockets;
use ambit_proxy::Hosts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::net::TcpStream;

use crate::io::Io;
use crate::session::Caller;
use crate::snapshot::Snapshot;

pub(crate) use tls::{Client as TlsClient, Clients as TlsClients};

/// Who stands behind a tunnel. The destination believes it of the waypoints of what is asked for.
const CALLER: HeaderName = HeaderName::from_static(hbone::CALLER);
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried for one connection.
const HOST_ATTEMPTS: usize = 3;

/// The way to an endpoint.
pub(crate) type Endpoint = Upstream;

/// Makes connections as the waypoint.
pub(crate) struct Upstreams {
    /// The waypoint's own workload.
    pub(crate) uid: Arc<str>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) certificate: Wanted,
    /// What all workers have come to know of services.
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) tls: Arc<TlsClients>,
    /// Addresses of endpoints that are known by the names of hosts.
    pub(crate) hosts: Arc<Hosts>,
}

/// An endpoint that was chosen.
pub(crate) struct Chosen {
    pub(crate) endpoint: Endpoint,
    /// In flight until it is dropped; `None` for a pod that was addressed itself.
    pub(crate) counted: Option<cluster::Chosen>,
    /// TLS to the application itself.
    pub(crate) tls: Option<Arc<TlsClient>>,
    /// When that was.
    pub(crate) at: Instant,
    /// How long TCP and handshakes may take.
    pub(crate) patience: Duration,
    /// The waypoint's addresses: a host is reached from one of their families.
    own: Vec<IpAddr>,
}

impl Chosen {
    /// The same way, for a connection that outlives the request.
    pub(crate) fn clone_way(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            counted: None,
            tls: self.tls.clone(),
            at: self.at,
            patience: self.patience,
            own: self.own.clone(),
        }
    }
}

impl Upstreams {
    /// Chooses an endpoint of a service port, for a request or for a connection of no known protocol.
    ///
    /// # Errors
    /// 503 when there is none or the service has what it may have; 500 when TLS to it cannot be spoken as it
    /// should be.
    pub(crate) fn pick(
        &self,
        snapshot: &Snapshot,
        service: &NamespacedName,
        port: u16,
        kind: Kind,
        wish: &Wish<'_>,
    ) -> Result<Chosen, Refusal> {
        let now = Instant::now();
        let cluster = self.clusters.of(service, port, now);
        self.pick_of(&cluster, snapshot, service, kind, wish, now)
    }

    /// The same of the cluster that `service`'s port is known as.
    ///
    /// # Errors
    /// As [`Self::pick`].
    pub(crate) fn pick_of(
        &self,
        cluster: &Arc<Cluster>,
        snapshot: &Snapshot,
        service: &NamespacedName,
        kind: Kind,
        wish: &Wish<'_>,
        now: Instant,
    ) -> Result<Chosen, Refusal> {
        let port = cluster.port();
        let no = |reason: String| Refusal::new(503, Flag::NoHealthyUpstream, reason);
        let index = &snapshot.index;
        let me = index.workload(&self.uid);
        let me = me.ok_or_else(|| no(format!("{} is not described yet", self.uid)))?;
        let known = index.service(service);
        let known = known.ok_or_else(|| no(format!("service {service} is not known")))?;
        let traffic = snapshot.config.traffic(service, port);
        let view = View {
            service: known,
            endpoints: index.endpoints(service),
            traffic,
            local: me,
        };
        let mut picker = |bound: u32| rand::random_range(0..bound);
        let way = |it: &_| plan::upstream_of_endpoint(known, port, it, me);
        let counted = cluster.pick(&view, kind, wish, now, &mut picker, |it| way(it).is_some())?;
        let endpoint = way(counted.endpoint());
        let endpoint =
            endpoint.ok_or_else(|| no(format!("service {service} has no port {port}")))?;
        let tls = match snapshot.config.tls(service, port) {
            Some(how) => Some(self.tls.client(how)?),
            None => None,
        };
        let patience = traffic.and_then(|it| it.limits.connect_timeout);
        let is_host = endpoint.workload.is_host();
        Ok(Chosen {
            own: if is_host {
                me.addresses.clone()
            } else {
                Vec::new()
            },
            endpoint,
            counted: Some(counted),
            tls,
            at: now,
            patience: patience.unwrap_or(CONNECT),
        })
    }

    /// The endpoint of a pod that was addressed itself.
    pub(crate) fn of_workload(
        &self,
        workload: &Arc<Workload>,
        address: SocketAddr,
        protocol: AppProtocol,
    ) -> Chosen {
        Chosen {
            endpoint: plan::upstream_of_workload(workload, address, protocol),
            counted: None,
            tls: None,
            at: Instant::now(),
            patience: CONNECT,
            own: Vec::new(),
        }
    }

    /// Connects for a caller; for the waypoint itself without one.
    ///
    /// # Errors
    /// Why there is no connection. A tunnel that is refused shows when it is read.
    pub(crate) async fn connect(
        &self,
        chosen: &Chosen,
        caller: Option<&Caller>,
    ) -> Result<Io, String> {
        in_time(chosen.patience, self.begin(chosen, caller)).await
    }

    /// The same, and waits until the destination has agreed to it.
    ///
    /// # Errors
    /// Why there is no connection: the destination has seen nothing of it.
    pub(crate) async fn establish(
        &self,
        chosen: &Chosen,
        caller: Option<&Caller>,
    ) -> Result<Io, String> {
        let establishing = async {
            let mut io = self.begin(chosen, caller).await?;
            let established = io.established().await;
            established.map_err(|error| error.to_string())?;
            Ok(io)
        };
        in_time(chosen.patience, establishing).await
    }

    async fn begin(&self, chosen: &Chosen, caller: Option<&Caller>) -> Result<Io, String> {
        let io = match &chosen.endpoint.tunnel {
            Some(_) => self.tunnel(&chosen.endpoint, caller).await?,
            None => Io::Tcp(self.dial(chosen).await?),
        };
        match &chosen.tls {
            Some(client) => client.connect(io).await,
            None => Ok(io),
        }
    }

    /// A host is reached at the first of its addresses that takes the connection, beginning with a random one.
    async fn dial(&self, chosen: &Chosen) -> Result<TcpStream, String> {
        let sockets = Sockets::default();
        let Endpoint {
            workload, address, ..
        } = &chosen.endpoint;
        if !workload.is_host() {
            let connecting = sockets.connect(*address, None);
            return connecting.await.map_err(|error| error.to_string());
        }
        let host = &workload.hostname;
        let mut addresses = self.hosts.addresses(host, &chosen.own).await;
        addresses.truncate(HOST_ATTEMPTS);
        let mut failed = format!("{host} has no address that is reached");
        // A silent one leaves time for the next.
        let share = chosen.patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for ip in addresses {
            let address = SocketAddr::new(ip, address.port());
            match tokio::time::timeout(share, sockets.connect(address, None)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = format!("{host} at {address}: {error}"),
                Err(_) => failed = format!("{host} at {address}: no answer in {share:?}"),
            }
        }
        Err(failed)
    }

    async fn tunnel(&self, endpoint: &Endpoint, caller: Option<&Caller>) -> Result<Io, String> {
        let identities = endpoint.tunnel.clone().unwrap_or_else(|| Arc::new([]));
        let certificate = self.certificate.get().await.map_err(|it| it.to_string())?;
        let target = Target {
            address: SocketAddr::new(endpoint.address.ip(), HBONE_PORT),
            identities,
        };
        let authority = endpoint.address.to_string();
        let opening = self
            .pool
            .open(
                &target,
                &certificate,
                &authority,
                caller.map(headers).unwrap_or_default(),
            )
            .await
            .map_err(|error| error.to_string())?;
        Ok(Io::Tunnel(Duplex::from(opening)))
    }
}

async fn in_time<T>(
    patience: Duration,
    connecting: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout(patience, connecting)
        .await
        .unwrap_or_else(|_| Err(format!("no connection within {patience:?}")))
}

fn headers(caller: &Caller) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    if let Ok(identity) = HeaderValue::try_from(caller.identity.to_string()) {
        headers.insert(CALLER, identity);
    }
    let forwarded = Forwarded {
        client: Some(caller.address),
        host: None,
    };
    if let Ok(forwarded) = HeaderValue::try_from(forwarded.to_string()) {
        headers.insert(header::FORWARDED, forwarded);
    }
    headers
}
