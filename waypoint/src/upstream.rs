//! Endpoints of services, and connections to them: tunnels as the waypoint, with word of the caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::hbone::{self, Forwarded};
use ambit_core::model::{AppProtocol, Workload};
use ambit_core::plan::{self, HBONE_PORT, Upstream};
use ambit_http::refusal::{Flag, Refusal};
use ambit_net::ca::Wanted;
use ambit_net::hbone::{Duplex, Pool, Target};
use ambit_net::sys::Sockets;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::io::Io;
use crate::session::Caller;
use crate::snapshot::Snapshot;

/// Who stands behind a tunnel. The destination believes it of the waypoints of what is asked for.
const CALLER: HeaderName = HeaderName::from_static(hbone::CALLER);
const CONNECT: Duration = Duration::from_secs(10);

/// The way to an endpoint.
pub(crate) type Endpoint = Upstream;

/// Makes connections as the waypoint.
pub(crate) struct Upstreams {
    /// The waypoint's own workload.
    pub(crate) uid: Arc<str>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) certificate: Wanted,
}

impl Upstreams {
    /// Draws an endpoint of a service port.
    pub(crate) fn pick(
        &self,
        snapshot: &Snapshot,
        service: &NamespacedName,
        port: u16,
        exclude: &[Arc<str>],
    ) -> Result<Endpoint, Refusal> {
        if let Some(tls) = snapshot.config.tls(service, port) {
            // Never plain text where TLS was asked for.
            let reason = format!(
                "{} wants TLS to {service}, which this version cannot",
                tls.key
            );
            return Err(Refusal::new(500, Flag::NoClusterFound, reason));
        }
        let no = |reason: String| Refusal::new(503, Flag::NoHealthyUpstream, reason);
        let me = snapshot.index.workload(&self.uid);
        let me = me.ok_or_else(|| no(format!("{} is not described yet", self.uid)))?;
        let mut picker = |bound: u32| rand::random_range(0..bound);
        plan::plan_upstream(&snapshot.index, me, service, port, exclude, &mut picker)
            .map_err(|refusal| no(refusal.reason))
    }

    /// The endpoint of a pod that was addressed itself.
    pub(crate) fn of_workload(
        &self,
        workload: &Arc<Workload>,
        address: SocketAddr,
        protocol: AppProtocol,
    ) -> Endpoint {
        plan::upstream_of_workload(workload, address, protocol)
    }

    /// Connects for a caller.
    ///
    /// # Errors
    /// Why there is no connection. A tunnel that is refused shows when it is read.
    pub(crate) async fn connect(&self, endpoint: &Endpoint, caller: &Caller) -> Result<Io, String> {
        let Some(identities) = &endpoint.tunnel else {
            let sockets = Sockets::default();
            let connecting = sockets.connect(endpoint.address, None);
            return match tokio::time::timeout(CONNECT, connecting).await {
                Ok(connected) => connected.map(Io::Tcp).map_err(|error| error.to_string()),
                Err(_) => Err(format!("no connection within {CONNECT:?}")),
            };
        };
        let certificate = self.certificate.get().await.map_err(|it| it.to_string())?;
        let target = Target {
            address: SocketAddr::new(endpoint.address.ip(), HBONE_PORT),
            identities: identities.clone(),
        };
        let opening = self
            .pool
            .open(
                &target,
                &certificate,
                &endpoint.address.to_string(),
                headers(caller),
            )
            .await
            .map_err(|error| error.to_string())?;
        Ok(Io::Tunnel(Duplex::from(opening)))
    }
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
