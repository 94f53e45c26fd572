//! `/config_dump`: everything this proxy knows.

use std::sync::Arc;

use ambit_core::plan::BoundTo;
use ambit_net::ca::CertificateStore;
use ambit_proxy::Published;
use ambit_proxy::dump::{self, Connection, Connections};
use ambit_telemetry::access::Direction;
use ambit_telemetry::metrics::Security;
use serde_json::{Value, json};

use crate::config::Config;
use crate::http::Common;
use crate::session::{Session, Sessions};
use crate::snapshot::Snapshot;

/// Where it is known.
pub(crate) struct Known {
    pub(crate) config: Config,
    pub(crate) current: Arc<Published<Snapshot>>,
    pub(crate) certificates: CertificateStore,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) common: Arc<Common>,
}

impl Known {
    /// The answer to `/config_dump`.
    pub(crate) fn dump(&self) -> Value {
        let Snapshot { index, config } = &*self.current.load_full();
        let mut workloads: Vec<_> = index.workloads().collect();
        workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
        let workloads: Vec<_> = workloads
            .into_iter()
            .map(|it| dump::Workload::of(it))
            .collect();
        let mut routes: Vec<_> = config.rules().collect();
        routes.sort_by(|a, b| a.key.cmp(&b.key));
        let mut policies: Vec<_> = config.all_policies().collect();
        policies.sort_by(|a, b| a.key.cmp(&b.key));
        json!({
            "version": { "name": "ambit", "version": env!("CARGO_PKG_VERSION") },
            "config": self.config,
            "workloads": workloads,
            "services": dump::services(index),
            "routes": routes,
            "policies": policies,
            "certificates": dump::certificates(&self.certificates),
            "connections": self.connections(),
            "denials": self.common.telemetry.denials.shown(),
        })
    }

    fn connections(&self) -> Connections {
        let all = self.sessions.all().into_iter();
        let mut all: Vec<_> = all.filter_map(|it| it.upgrade()).collect();
        all.sort_by_key(|session| session.number);
        Connections::of(&all, |session| connection(session))
    }
}

fn connection(session: &Session) -> Connection {
    let (caller, target) = (&session.caller, &session.target);
    let (workload, service) = match &target.bound {
        BoundTo::Workload(workload) => (Some(dump::name(workload)), None),
        BoundTo::Service(service) => (None, Some(service.key.to_string())),
    };
    Connection {
        direction: Direction::Inbound.as_str(),
        source: caller.address,
        source_workload: caller.workload.as_deref().map(dump::name),
        source_identity: Some(caller.identity.clone()),
        source_waypoint: None,
        destination: target.address,
        destination_workload: workload,
        destination_service: service,
        hbone_addr: None,
        security: Some(Security::MutualTls.as_str()),
        bytes_from_client: session.counters.received(),
        bytes_to_client: session.counters.sent(),
        seconds: session.started.elapsed().as_secs_f64(),
    }
}
