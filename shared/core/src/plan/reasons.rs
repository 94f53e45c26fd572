//! Why a plan leads nowhere, in the words of what a person can do about it.

use std::fmt;

use super::network;
use super::planner::Planner;
use super::target::is_on_the_network_of;
use crate::index::{Endpoint, Endpoints};
use crate::model::{PortMapping, Service, Workload};

impl<P> Planner<'_, P> {
    /// Why there is no endpoint.
    pub(super) fn no_endpoint(&self, service: &Service, endpoints: Option<&Endpoints>) -> String {
        let key = &service.key;
        let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
            return format!("service {key} has no endpoints; check its selector and that pods run");
        };
        let all = endpoints.len();
        if endpoints.healthy_len() == 0 && !service.load_balancing.allow_unhealthy {
            return format!("none of the {all} endpoints of service {key} is ready");
        }
        let from = self.outbound.source;
        let mut elsewhere = endpoints.iter().map(Endpoint::workload);
        if elsewhere.all(|workload| !is_on_the_network_of(workload, from)) {
            let first = endpoints.iter().map(Endpoint::workload).next();
            let why = first.map_or_else(String::new, |it| network::why_not(self.index, it));
            return format!("all {all} endpoints of service {key} are on other networks: {why}");
        }
        if let Some(host) = endpoints.iter().find(|e| e.workload().is_host()) {
            let host = &host.workload().hostname;
            return format!(
                "service {key} is served by {host}, which has no address that is reached"
            );
        }
        let failed = self.outbound.exclude.len();
        if failed > 0 {
            return format!("no endpoint of service {key} is left after {failed} failed");
        }
        let port = self.dialled.port();
        format!(
            "none of the {all} endpoints of service {key} serves port {port} at an address \
             and place that fit the client"
        )
    }

    /// Why no address of a workload is one for the client.
    pub(super) fn unreachable(&self, workload: &Workload) -> String {
        let from = self.outbound.source;
        if is_on_the_network_of(workload, from) {
            let (to, from) = (Named(workload), Named(from));
            format!("{to} has no address of a family that {from} has")
        } else {
            network::why_not(self.index, workload)
        }
    }
}

/// A pod, for a reader.
pub(super) struct Named<'a>(pub(super) &'a Workload);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self.0.name)
    }
}

/// The ports of a service, for a reader.
pub(super) struct Ports<'a>(pub(super) &'a [PortMapping]);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, port) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", port.service_port)?;
        }
        Ok(())
    }
}
