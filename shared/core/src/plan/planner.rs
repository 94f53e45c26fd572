//! The steps of an outbound decision: through a waypoint, to an endpoint, directly.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outbound::{Hop, Outbound, OutboundKind, OutboundPlan, Tunnel};
use super::reasons::{Named, Ports};
use super::target::{
    Port, Transport, fitting, is_on_the_network_of, mapped, mappings, takes, target_port,
};
use super::waypoint::{self, Shown};
use super::{Gateway, HBONE_PORT, Refusal, network};
use crate::balance::{Picker, keep, pick, pick_less_busy};
use crate::hbone::Authority;
use crate::identity::Identity;
use crate::index::{Endpoint, Endpoints, Index, Target};
use crate::model::service::Mode;
use crate::model::{GatewayAddress, Service, Workload};

/// The steps of one decision.
pub(super) struct Planner<'a, P> {
    pub(super) index: &'a Index,
    pub(super) outbound: &'a Outbound<'a>,
    pub(super) dialled: SocketAddr,
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
        let (known, word) = match self.outbound.transport {
            Transport::Tcp => (&service.ports, "port"),
            Transport::Udp => (&service.udp_ports, "UDP port"),
        };
        if !known.iter().any(|known| known.service_port == port) {
            return Err(Refusal::unavailable(format!(
                "service {} has no {word} {port}; it has {}",
                service.key,
                Ports(known)
            )));
        }
        let transport = self.outbound.transport;
        let (workload, target) = self.endpoint(service, |it| {
            mapped(
                mappings(service, it.workload(), it.ports(), transport),
                port,
            )
        })?;
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
            && let Ok(plan) = self.through(drawn, self.dialled, None, Some(service), &what)
        {
            return Ok(plan);
        }
        self.through(bound_to, self.dialled, None, Some(service), &what)
    }

    fn plan_endpoint(
        &mut self,
        workload: &Arc<Workload>,
        target: SocketAddr,
        service: &Arc<Service>,
    ) -> Result<OutboundPlan, Refusal> {
        let source = self.outbound.source;
        let port = self.port(target.port());
        match waypoint::for_endpoint(self.index, workload, port, source) {
            Some(gateway) => {
                let what = format_args!("port {} of {}", target.port(), Named(workload));
                self.through(gateway, target, Some(workload), Some(service), &what)
            }
            None => self.direct(workload, target, Some(service)),
        }
    }

    pub(super) fn plan_workload(
        &mut self,
        workload: &Arc<Workload>,
    ) -> Result<OutboundPlan, Refusal> {
        let source = self.outbound.source;
        let port = self.port(self.dialled.port());
        let gateway = waypoint::for_workload(self.index, workload, port, source);
        match gateway {
            Some(gateway) => {
                let what = format_args!("workload {}", Named(workload));
                self.through(gateway, self.dialled, Some(workload), None, &what)
            }
            None => self.direct(workload, self.dialled, None),
        }
    }

    fn port(&self, number: u16) -> Port {
        Port {
            transport: self.outbound.transport,
            number,
        }
    }

    /// A tunnel to a waypoint, for TCP alone, asking for `asked`: an address of `pod`, which means another one on another network, or of a
    /// service, which means the same on all.
    fn through(
        &mut self,
        gateway: &GatewayAddress,
        asked: SocketAddr,
        pod: Option<&Workload>,
        service: Option<&Arc<Service>>,
        bound: &dyn fmt::Display,
    ) -> Result<OutboundPlan, Refusal> {
        if self.outbound.transport == Transport::Udp {
            return Err(no_udp(bound, gateway));
        }
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
                if let Some(pod) = pod.filter(|pod| !is_on_the_network_of(pod, workload)) {
                    return Err(refuse(&format_args!(
                        "{} is on another network than {}",
                        Named(workload),
                        Named(pod)
                    )));
                }
                let ip = address(self.index, self.outbound, self.dialled, workload)
                    .ok_or_else(|| refuse(&self.unreachable(workload)))?;
                let target = SocketAddr::new(ip, gateway.hbone_port);
                (workload.clone(), target, &[][..])
            }
            Some(Target::Service(waypoint)) => {
                let (workload, target) = self
                    .instance(waypoint, gateway.hbone_port, pod)
                    .map_err(|refusal| refuse(&refusal.reason))?;
                (workload, target, &waypoint.subject_alt_names[..])
            }
        };
        let identities = identities(&workload, names);
        let gateway = self
            .gateway(&workload)
            .map_err(|refusal| refuse(&refusal.reason))?;
        Ok(OutboundPlan {
            kind: OutboundKind::Hbone(Tunnel {
                target,
                authority: Authority::Addr(asked),
                identities,
                hop: Hop::Waypoint,
                gateway,
            }),
            workload: Some(workload),
            service: service.cloned(),
        })
    }

    /// Chooses an endpoint that has an address for the client and a port for the service port.
    fn endpoint(
        &mut self,
        service: &Service,
        port: impl Fn(&Endpoint) -> Option<u16>,
    ) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
        let how = &service.load_balancing;
        let (index, outbound, dialled) = (self.index, self.outbound, self.dialled);
        let endpoints = index.endpoints(&service.key);
        let picked = endpoints.and_then(|endpoints| {
            let able = |endpoint| able(index, outbound, dialled, endpoint, &port);
            if how.client_affinity {
                let client = outbound.source_addr.ip();
                return keep(endpoints, how, outbound.source, client, able);
            }
            pick(endpoints, how, outbound.source, self.picker, able)
        });
        self.picked(service, endpoints, picked)
    }

    /// Chooses an instance of a waypoint, by what the client has to each already; one on another network when there is none on
    /// its own. For a pod's address it is one that has that pod there.
    fn instance(
        &mut self,
        waypoint: &Service,
        port: u16,
        pod: Option<&Workload>,
    ) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
        let how = &waypoint.load_balancing;
        let (index, outbound, dialled) = (self.index, self.outbound, self.dialled);
        let endpoints = index.endpoints(&waypoint.key);
        let here = |it: &Endpoint| is_on_the_network_of(it.workload(), outbound.source);
        let port = |it: &Endpoint| Some(target_port(waypoint, it.ports(), port).unwrap_or(port));
        let picked = endpoints.and_then(|endpoints| {
            let knows =
                |it: &Endpoint| pod.is_none_or(|pod| is_on_the_network_of(pod, it.workload()));
            let able = |endpoint| {
                able(index, outbound, dialled, endpoint, port).filter(|_| knows(endpoint))
            };
            let near = |endpoint| able(endpoint).filter(|_| here(endpoint));
            let load = |endpoint: &Endpoint, target: &SocketAddr| {
                let expected = identities(endpoint.workload(), &waypoint.subject_alt_names);
                (outbound.streams)(*target, &expected)
            };
            let source = outbound.source;
            pick_less_busy(endpoints, how, source, self.picker, near, load)
                .or_else(|| pick(endpoints, how, source, self.picker, able))
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

    /// To the workload itself; nothing may be left that requires a waypoint.
    fn direct(
        &mut self,
        workload: &Arc<Workload>,
        target: SocketAddr,
        service: Option<&Arc<Service>>,
    ) -> Result<OutboundPlan, Refusal> {
        let source = self.outbound.source;
        let gateway = self.gateway(workload)?;
        // A pod that calls itself crosses no wire, whatever else is switched off.
        let itself = workload.uid == source.uid;
        let tunneled = takes(workload, self.outbound.transport);
        let served_here = tunneled
            && gateway.is_none()
            && !workload.native_tunnel
            && (self.outbound.local)(workload);
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
                gateway,
            })
        } else if gateway.is_some() {
            return Err(Refusal::unavailable(format!(
                "{} is on another network and takes no UDP from tunnels; only tunnels go through a gateway",
                Named(workload)
            )));
        } else {
            return Ok(plain(target, Some(workload), service));
        };
        Ok(OutboundPlan {
            kind,
            workload: Some(workload.clone()),
            service: service.cloned(),
        })
    }

    /// The gateway on the way to a workload: none on the client's own network.
    fn gateway(&mut self, workload: &Workload) -> Result<Option<Gateway>, Refusal> {
        if is_on_the_network_of(workload, self.outbound.source) {
            return Ok(None);
        }
        network::gateway(self.index, self.outbound, workload, self.picker)
            .map(Some)
            .map_err(Refusal::unavailable)
    }
}

/// The address of a workload for the client, or for the gateway on the way to it.
fn address(
    index: &Index,
    outbound: &Outbound<'_>,
    dialled: SocketAddr,
    workload: &Workload,
) -> Option<IpAddr> {
    if is_on_the_network_of(workload, outbound.source) {
        fitting(&workload.addresses, outbound.source, dialled.ip())
    } else {
        network::address(index, outbound, workload)
    }
}

/// Where an endpoint is reached, if the client can and has not tried it.
fn able(
    index: &Index,
    outbound: &Outbound<'_>,
    dialled: SocketAddr,
    endpoint: &Endpoint,
    port: impl Fn(&Endpoint) -> Option<u16>,
) -> Option<SocketAddr> {
    let workload = endpoint.workload();
    if outbound.exclude.contains(&workload.uid) {
        return None;
    }
    let (from, like) = (outbound.source, dialled.ip());
    let ip = if workload.is_host() {
        fitting(&(outbound.hosts)(&workload.hostname)?, from, like)?
    } else {
        address(index, outbound, dialled, workload)?
    };
    Some(SocketAddr::new(ip, port(endpoint)?))
}

fn no_udp(bound: &dyn fmt::Display, gateway: &GatewayAddress) -> Refusal {
    Refusal::unavailable(format!(
        "{bound} is bound to waypoint {}, and waypoints carry no UDP; a service that is labelled \
         ambit.dev/waypoint-bypass=allowed is sent it directly",
        Shown(&gateway.destination)
    ))
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
