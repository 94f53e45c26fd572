//! Where a connection that a pod opened goes, and how.
//!
//! In this order: a service by its virtual IP (through its waypoint, or to one endpoint), a
//! workload by its address (through its waypoint, or directly), anything else as it is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::target::{reachable_ip, target_port};
use super::waypoint::{self, Shown};
use super::{HBONE_PORT, Refusal, is_own_port};
use crate::addr::NetworkAddr;
use crate::balance::{Picker, pick};
use crate::hbone::Authority;
use crate::identity::Identity;
use crate::index::{Index, Target};
use crate::model::service::Mode;
use crate::model::{GatewayAddress, LoadBalancing, NetworkMode, Service, TunnelProtocol, Workload};

/// A captured connection.
#[derive(Clone, Copy)]
pub struct Outbound<'a> {
    /// The pod that opened it.
    pub source: &'a Workload,
    /// Its end of the connection.
    pub source_addr: SocketAddr,
    /// What it dialled.
    pub destination: SocketAddr,
    /// Whether this node proxy serves that workload too, so that no wire lies between.
    pub local: &'a dyn Fn(&Workload) -> bool,
    /// Uids of endpoints that were tried in vain.
    pub exclude: &'a [Arc<str>],
}

impl fmt::Debug for Outbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("source", &self.source.uid)
            .field("source_addr", &self.source_addr)
            .field("destination", &self.destination)
            .field("exclude", &self.exclude)
            .finish_non_exhaustive()
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundPlan {
    /// How the bytes travel.
    pub kind: OutboundKind,
    /// The workload at the end of this hop (the waypoint's, when there is one), if known.
    pub workload: Option<Arc<Workload>>,
    /// The service that was dialled, if it was one.
    pub service: Option<Arc<Service>>,
}

/// How the bytes travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboundKind {
    /// In an HBONE tunnel.
    Hbone(Tunnel),
    /// To a pod of this node: plan it inbound, authorize with the identities the kernel vouches
    /// for, and relay between the two sockets.
    Local {
        /// The pod.
        workload: Arc<Workload>,
        /// Its address and port.
        destination: SocketAddr,
    },
    /// As they are.
    Plain {
        /// Where.
        target: SocketAddr,
    },
}

/// A tunnel to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Where the TLS connection goes.
    pub target: SocketAddr,
    /// What the CONNECT asks for.
    pub authority: Authority,
    /// The server must show exactly one of these.
    pub identities: Vec<Identity>,
    /// What is at the other end.
    pub hop: Hop,
}

/// What is at the other end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// The destination itself.
    Workload,
    /// A waypoint, which goes on from there.
    Waypoint,
}

/// Decides where a captured connection goes.
///
/// # Errors
/// A [`Refusal`] when it must not or cannot go anywhere. Traffic for something bound to a
/// waypoint never goes around it.
pub fn plan_outbound(
    index: &Index,
    outbound: &Outbound<'_>,
    picker: &mut impl Picker,
) -> Result<OutboundPlan, Refusal> {
    let source = outbound.source;
    let dialled = canonical(outbound.destination);
    if is_own_port(dialled.port()) && source.addresses.contains(&dialled.ip()) {
        return Err(Refusal::unavailable(format!(
            "{dialled} is a port of the node proxy in the pod itself, not of an application"
        )));
    }
    let mut planner = Planner {
        index,
        outbound,
        dialled,
        picker,
    };
    let addr = NetworkAddr::new(source.network.clone(), dialled.ip());
    if let Some(service) = index.service_at(&addr, &source.namespace) {
        return planner.to_service(service, index.workload_at(&addr));
    }
    match index.workload_at(&addr) {
        Some(workload) => planner.to_workload(workload),
        None => Ok(plain(dialled, None, None)),
    }
}

struct Planner<'a, P> {
    index: &'a Index,
    outbound: &'a Outbound<'a>,
    dialled: SocketAddr,
    picker: &'a mut P,
}

impl<P: Picker> Planner<'_, P> {
    fn to_service(
        &mut self,
        service: &Arc<Service>,
        at_address: Option<&Arc<Workload>>,
    ) -> Result<OutboundPlan, Refusal> {
        if let Some(gateway) = &service.waypoint
            && !waypoint::is_instance(self.index, gateway, self.outbound.source)
        {
            return self.through(
                gateway,
                Some(service),
                &format_args!("service {}", service.key),
            );
        }
        if service.load_balancing.mode == Mode::Passthrough {
            return match at_address {
                Some(workload) => self.direct(workload, self.dialled, Some(service)),
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
        let (workload, target) = self.endpoint(service, &service.load_balancing, |ports| {
            target_port(service, ports, port)
        })?;
        self.direct(&workload, target, Some(service))
    }

    fn to_workload(&mut self, workload: &Arc<Workload>) -> Result<OutboundPlan, Refusal> {
        let source = self.outbound.source;
        if workload.uid != source.uid {
            let port = self.dialled.port();
            let mut first = None;
            let mut is_waypoint = false;
            for gateway in waypoint::bindings(self.index, workload, port) {
                is_waypoint |= waypoint::is_instance(self.index, gateway, source);
                first.get_or_insert(gateway);
            }
            if let Some(gateway) = first.filter(|_| !is_waypoint) {
                let what = format_args!("workload {}/{}", workload.namespace, workload.name);
                return self.through(gateway, None, &what);
            }
        }
        self.direct(workload, self.dialled, None)
    }

    /// A tunnel to a waypoint, asking for what the client dialled.
    fn through(
        &mut self,
        gateway: &GatewayAddress,
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
                let port = gateway.hbone_port;
                let (workload, target) = self
                    .endpoint(waypoint, &waypoint.load_balancing, |ports| {
                        Some(target_port(waypoint, ports, port).unwrap_or(port))
                    })
                    .map_err(|refusal| refuse(&refusal.reason))?;
                (workload, target, &waypoint.subject_alt_names[..])
            }
        };
        Ok(OutboundPlan {
            kind: OutboundKind::Hbone(Tunnel {
                target,
                authority: Authority::Addr(self.dialled),
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
        how: &LoadBalancing,
        port: impl Fn(&[crate::model::PortMapping]) -> Option<u16>,
    ) -> Result<(Arc<Workload>, SocketAddr), Refusal> {
        let source = self.outbound.source;
        let dialled = self.dialled.ip();
        let exclude = self.outbound.exclude;
        let endpoints = self.index.endpoints(&service.key);
        let picked = endpoints.and_then(|endpoints| {
            pick(endpoints, how, source, self.picker, |endpoint| {
                let workload = endpoint.workload();
                if exclude.contains(&workload.uid) {
                    return None;
                }
                let ip = reachable_ip(workload, source, dialled)?;
                Some(SocketAddr::new(ip, port(endpoint.ports())?))
            })
        });
        if let Some((endpoint, target)) = picked {
            return Ok((endpoint.workload().clone(), target));
        }
        let key = &service.key;
        let (all, healthy) = endpoints.map_or((0, 0), |e| (e.len(), e.healthy_len()));
        let remote = |endpoints: &crate::index::Endpoints| {
            endpoints
                .iter()
                .all(|endpoint| endpoint.workload().network != source.network)
        };
        Err(Refusal::unavailable(if all == 0 {
            format!("service {key} has no endpoints; check its selector and that pods run")
        } else if healthy == 0 && !how.allow_unhealthy {
            format!("none of the {all} endpoints of service {key} is ready")
        } else if endpoints.is_some_and(remote) {
            format!(
                "all endpoints of service {key} are on remote networks: \
                 not reachable without a gateway"
            )
        } else if exclude.is_empty() {
            format!(
                "no endpoint of service {key} serves port {} at an address and place that fit",
                self.dialled.port()
            )
        } else {
            format!(
                "no endpoint of service {key} is left after {} failed",
                exclude.len()
            )
        }))
    }

    /// To the workload itself; nothing may be left that requires a waypoint.
    fn direct(
        &self,
        workload: &Arc<Workload>,
        target: SocketAddr,
        service: Option<&Arc<Service>>,
    ) -> Result<OutboundPlan, Refusal> {
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
            return Ok(plain(target, Some(workload), service));
        };
        Ok(OutboundPlan {
            kind,
            workload: Some(workload.clone()),
            service: service.cloned(),
        })
    }
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

fn identities(workload: &Workload, names: &[Identity]) -> Vec<Identity> {
    let own = std::iter::once(&workload.identity);
    own.chain(names.iter().filter(|name| **name != workload.identity))
        .cloned()
        .collect()
}

fn unreachable(workload: &Workload, from: &Workload) -> String {
    if workload.network == from.network {
        format!(
            "{}/{} has no address of a family that {}/{} has",
            workload.namespace, workload.name, from.namespace, from.name
        )
    } else {
        format!(
            "{}/{} is on the remote network {:?}: not reachable without a gateway",
            workload.namespace, workload.name, workload.network
        )
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
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
