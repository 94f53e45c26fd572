//! The steps of an outbound decision: through a waypoint, to an endpoint, directly.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::outbound::{Hop, Outbound, OutboundKind, OutboundPlan, Tunnel};
use super::target::{fitting, reachable_ip, target_port};
use super::waypoint::{self, Shown};
use super::{HBONE_PORT, Refusal};
use crate::balance::{Picker, keep, pick, pick_less_busy};
use crate::hbone::Authority;
use crate::identity::Identity;
use crate::index::{Endpoint, Endpoints, Index, Target};
use crate::model::service::Mode;
use crate::model::{GatewayAddress, NetworkMode, PortMapping, Service, TunnelProtocol, Workload};

/// The steps of one decision.
pub(super) struct Planner<'a, P> {
    index: &'a Index,
    outbound: &'a Outbound<'a>,
    dialled: SocketAddr,
    picker: &'a mut P,
}

impl<'a, P: Picker> Planner<'a, P> {
    pub(super) fn new(
        index: &'a Index,
        outbound: &'a Outbound<'a>,
        dialled: SocketAddr,
        picker: &'a mut P,
    ) -> Self {
        Self {
            index,
            outbound,
            dialled,
            picker,
        }
    }

    pub(super) fn plan_service(
        &mut self,
        service: &Arc<Service>,
        at_address: Option<&Arc<Workload>>,
    ) -> Result<OutboundPlan, Refusal> {
        if let Some(gateway) = waypoint::for_service(self.index, service, self.outbound.source) {
            let through = self.through_one(service, gateway);
            if through.is_ok() || !service.waypoint_bypass {
                return through;
            }
        }
        if service.load_balancing.mode == Mode::Passthrough {
            return match at_address {
                Some(workload) => self.plan_endpoint(workload, self.dialled, service),
                None => Ok(plain(self.dialled, None, Some(service))),
            };
        }
        let port = self.dialled.port();
        if !service.ports.iter().any(|known| known.service_port == port) {
            return Err(Refusal::unavailable(format!(
                "service {} has no port {port}; it has {}",
                service.key,
                Ports(service)
            )));
        }
        let (workload, target) =
            self.endpoint(service, |ports| target_port(service, ports, port))?;
        self.plan_endpoint(&workload, target, service)
    }

    /// Through the waypoint that is drawn for this connection. What another than the one that the service is bound to
    /// cannot take (it is missing, or has no instance that is ready) goes through that one: an experiment costs nobody a
    /// connection. Nothing goes the other way: a canary has no more than its share of what is drawn for.
    fn through_one(
        &mut self,
        service: &Arc<Service>,
        bound_to: &GatewayAddress,
    ) -> Result<OutboundPlan, Refusal> {
        let what = format_args!("service {}", service.key);
        if let Some(drawn) = waypoint::drawn(service, self.picker)
            && drawn != bound_to
            && let Ok(plan) = self.through(drawn, self.dialled, Some(service), &what)
        {
            return Ok(plan);
        }
        self.through(bound_to, self.dialled, Some(service), &what)
    }

    fn plan_endpoint(
        &mut self,
        workload: &Arc<Workload>,
        target: SocketAddr,
        service: &Arc<Service>,
    ) -> Result<OutboundPlan, Refusal> {
        let source = self.outbound.source;
        match waypoint::for_endpoint(self.index, workload, target.port(), source) {
            Some(gateway) => {
                let what = format_args!("port {} of {}", target.port(), Named(workload));
                self.through(gateway, target, Some(service), &what)
            }
            None => Ok(self.direct(workload, target, Some(service))),
        }
    }

    pub(super) fn plan_workload(
        &mut self,
        workload: &Arc<Workload>,
    ) -> Result<OutboundPlan, Refusal> {
        let source = self.outbound.source;
        let port = self.dialled.port();
        let gateway = waypoint::for_workload(self.index, workload, port, source);
        match gateway {
            Some(gateway) => {
                let what = format_args!("workload {}", Named(workload));
                self.through(gateway, self.dialled, None, &what)
            }
            None => Ok(self.direct(workload, self.dialled, None)),
        }
    }

    /// A tunnel to a waypoint, asking for `asked`.
    fn through(
        &mut self,
        gateway: &GatewayAddress,
        asked: SocketAddr,
        service: Option<&Arc<Service>>,
        bound: &dyn fmt::Display,
    ) -> Result<OutboundPlan, Refusal> {
        let shown = Shown(&gateway.destination);
        let refuse = |why: &dyn fmt::Display| {
            Refusal::unavailable(format!("{bound} is bound to waypoint {shown}: {why}"))
        };
        let (workload, target, names) = match self.index.destination(&gateway.destination) {
            None => {
                return Err(refuse(
                    &"it does not exist; create it or remove the binding",
                ));
            }
            Some(Target::Workload(workload)) => {
                let ip = reachable_ip(workload, self.outbound.source, self.dialled.ip())
                    .ok_or_else(|| refuse(&unreachable(workload, self.outbound.source)))?;
                let target = SocketAddr::new(ip, gateway.hbone_port);
                (workload.clone(), target, &[][..])
            }
            Some(Target::Service(waypoint)) => {
                let (workload, target) = self
                    .instance(waypoint, gateway.hbone_port)
                    .map_err(|refusal| refuse(&refusal.reason))?;
                (workload, target, &waypoint.subject_alt_names[..])
            }
        };
        Ok(OutboundPlan {
            kind: OutboundKind::Hbone(Tunnel {
                target,
                authority: Authority::Addr(asked),
                identities: identities(&workload, names),
                hop: Hop::Waypoint,
            }),
            workload: Some(workload),
            service: service.cloned(),
        })
    }

    /// Chooses an endpoint that has an address for the client and a port for the service port.
    fn endpoint(
        &mut self,
        service: &Service,
        port: impl Fn(&[PortMapping]) -> Option<u16>,
    ) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
        let how = &service.load_balancing;
        let (outbound, dialled) = (self.outbound, self.dialled);
        let endpoints = self.index.endpoints(&service.key);
        let picked = endpoints.and_then(|endpoints| {
            let able = |endpoint| able(outbound, dialled, endpoint, &port);
            if how.client_affinity {
                let client = outbound.source_addr.ip();
                return keep(endpoints, how, outbound.source, client, able);
            }
            pick(endpoints, how, outbound.source, self.picker, able)
        });
        self.picked(service, endpoints, picked)
    }

    /// Chooses an instance of a waypoint, by what the client has to each already.
    fn instance(
        &mut self,
        waypoint: &Service,
        port: u16,
    ) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
        let how = &waypoint.load_balancing;
        let (outbound, dialled) = (self.outbound, self.dialled);
        let endpoints = self.index.endpoints(&waypoint.key);
        let port = |ports: &[PortMapping]| Some(target_port(waypoint, ports, port).unwrap_or(port));
        let picked = endpoints.and_then(|endpoints| {
            let able = |endpoint| able(outbound, dialled, endpoint, port);
            let load = |endpoint: &Endpoint, target: &SocketAddr| {
                let expected = identities(endpoint.workload(), &waypoint.subject_alt_names);
                (outbound.streams)(*target, &expected)
            };
            pick_less_busy(endpoints, how, outbound.source, self.picker, able, load)
        });
        self.picked(waypoint, endpoints, picked)
    }

    fn picked(
        &self,
        service: &Service,
        endpoints: Option<&Endpoints>,
        picked: Option<(&Endpoint, SocketAddr)>,
    ) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
        match picked {
            Some((endpoint, target)) => Ok((endpoint.workload().clone(), target)),
            None => Err(Refusal::unavailable(self.no_endpoint(service, endpoints))),
        }
    }

    /// Why there is no endpoint.
    fn no_endpoint(&self, service: &Service, endpoints: Option<&Endpoints>) -> String {
        let key = &service.key;
        let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
            return format!("service {key} has no endpoints; check its selector and that pods run");
        };
        let all = endpoints.len();
        if endpoints.healthy_len() == 0 && !service.load_balancing.allow_unhealthy {
            return format!("none of the {all} endpoints of service {key} is ready");
        }
        let here = &self.outbound.source.network;
        if endpoints.iter().all(|e| e.workload().network != *here) {
            return format!(
                "all {all} endpoints of service {key} are on remote networks: \
                 not reachable without a gateway"
            );
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

    /// To the workload itself; nothing may be left that requires a waypoint.
    fn direct(
        &self,
        workload: &Arc<Workload>,
        target: SocketAddr,
        service: Option<&Arc<Service>>,
    ) -> OutboundPlan {
        let source = self.outbound.source;
        // A pod that calls itself crosses no wire, whatever else is switched off.
        let itself = workload.uid == source.uid;
        let tunneled = workload.tunnel_protocol == TunnelProtocol::Hbone
            && workload.network_mode == NetworkMode::Standard;
        let served_here = tunneled && !workload.native_tunnel && (self.outbound.local)(workload);
        let kind = if itself || served_here {
            OutboundKind::Local {
                workload: workload.clone(),
                destination: target,
            }
        } else if tunneled {
            let names = service.map_or(&[][..], |service| &service.subject_alt_names);
            OutboundKind::Hbone(Tunnel {
                target: SocketAddr::new(target.ip(), HBONE_PORT),
                authority: Authority::Addr(target),
                identities: identities(workload, names),
                hop: Hop::Workload,
            })
        } else {
            return plain(target, Some(workload), service);
        };
        OutboundPlan {
            kind,
            workload: Some(workload.clone()),
            service: service.cloned(),
        }
    }
}

/// Where an endpoint is reached, if the client can and has not tried it.
fn able(
    outbound: &Outbound<'_>,
    dialled: SocketAddr,
    endpoint: &Endpoint,
    port: impl Fn(&[PortMapping]) -> Option<u16>,
) -> Option<SocketAddr> {
    let workload = endpoint.workload();
    if outbound.exclude.contains(&workload.uid) {
        return None;
    }
    let (from, like) = (outbound.source, dialled.ip());
    let ip = if workload.is_host() {
        fitting(&(outbound.hosts)(&workload.hostname)?, from, like)?
    } else {
        reachable_ip(workload, from, like)?
    };
    Some(SocketAddr::new(ip, port(endpoint.ports())?))
}

fn plain(
    target: SocketAddr,
    workload: Option<&Arc<Workload>>,
    service: Option<&Arc<Service>>,
) -> OutboundPlan {
    OutboundPlan {
        kind: OutboundKind::Plain { target },
        workload: workload.cloned(),
        service: service.cloned(),
    }
}

pub(super) fn identities(workload: &Workload, names: &[Identity]) -> Vec<Identity> {
    let own = std::iter::once(&workload.identity);
    own.chain(names.iter().filter(|name| **name != workload.identity))
        .cloned()
        .collect()
}

fn unreachable(workload: &Workload, from: &Workload) -> String {
    if workload.network == from.network {
        let (to, from) = (Named(workload), Named(from));
        format!("{to} has no address of a family that {from} has")
    } else {
        format!(
            "{} is on the remote network {:?}: not reachable without a gateway",
            Named(workload),
            workload.network
        )
    }
}

/// A pod, for a reader.
struct Named<'a>(&'a Workload);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self.0.name)
    }
}

/// The ports of a service, for a reader.
struct Ports<'a>(&'a Service);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.ports.is_empty() {
            return f.write_str("none");
        }
        for (at, port) in self.0.ports.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", port.service_port)?;
        }
        Ok(())
    }
}
