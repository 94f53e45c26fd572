//! What a CONNECT that arrived at a pod's HBONE port leads to.
//!
//! The caller has verified the peer's certificate; policies are judged afterwards, with
//! [`InboundPlan::facts`].

use std::net::SocketAddr;
use std::sync::Arc;

use super::target::{Port, Transport, service_for, target_port};
use super::waypoint;
use super::{Refusal, is_own_port};
use crate::addr::NetworkAddr;
use crate::authz::Facts;
use crate::hbone::proxy_protocol::Header;
use crate::hbone::{Authority, AuthorityError};
use crate::identity::{Identity, IdentityError};
use crate::index::Index;
use crate::model::{Service, Workload};
use crate::udp::UDP;

/// A CONNECT request.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a> {
    /// The pod it arrived at.
    pub local: &'a Workload,
    /// Who asks, by certificate, settled.
    pub peer: &'a Identity,
    /// The other end of the TLS connection.
    pub peer_addr: SocketAddr,
    /// This end of it.
    pub socket_destination: SocketAddr,
    /// What it asks for.
    pub authority: &'a str,
    /// What is to be carried.
    pub transport: Transport,
    /// The `host` of its `forwarded` header: names the service in telemetry, nothing else.
    pub forwarded_host: Option<&'a str>,
    /// The `for` of its `forwarded` header; see `caller`.
    pub forwarded_for: Option<SocketAddr>,
    /// Its [`CALLER`](crate::hbone::CALLER) header. Believed, together with `forwarded_for`, from an
    /// instance of the waypoint that the port or the pod is bound to, and from nobody else.
    pub caller: Option<&'a str>,
}

impl Inbound<'_> {
    fn port(&self, number: u16) -> Port {
        Port {
            transport: self.transport,
            number,
        }
    }

    fn asking(&self) -> waypoint::Peer<'_> {
        waypoint::Peer {
            identity: self.peer,
            address: self.peer_addr.ip().to_canonical(),
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPlan {
    /// Where the application listens; also the destination that policies judge.
    pub dial: SocketAddr,
    /// To be sent to the application first.
    pub proxy_header: Option<Header>,
    /// The service that was meant, for telemetry.
    pub service: Option<Arc<Service>>,
    /// The caller's workload, for telemetry.
    pub source: Option<Arc<Workload>>,
    /// Who called the waypoint that asks now; none when whoever asks is the caller.
    pub caller: Option<Caller>,
}

/// Who called a waypoint, by that waypoint's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// By the certificate that the waypoint has verified, settled.
    pub identity: Identity,
    /// The other end of the waypoint's connection, if it says so.
    pub address: Option<SocketAddr>,
}

impl InboundPlan {
    /// What [`authorize_all`](crate::authz::authorize_all) judges besides [`InboundPlan::facts`]: the
    /// caller of the waypoint that asks.
    #[must_use]
    pub fn caller_facts(&self, peer_addr: SocketAddr) -> Option<Facts<'_>> {
        self.caller.as_ref().map(|caller| Facts {
            source: Some(&caller.identity),
            source_ip: caller.address.unwrap_or(peer_addr).ip().to_canonical(),
            destination: self.dial,
        })
    }

    /// What [`authorize`](crate::authz::authorize) judges.
    #[must_use]
    pub fn facts<'a>(&self, peer: Option<&'a Identity>, peer_addr: SocketAddr) -> Facts<'a> {
        Facts {
            source: peer,
            source_ip: peer_addr.ip(),
            destination: self.dial,
        }
    }
}

/// Decides what a CONNECT leads to.
///
/// # Errors
/// 400 when the authority does not read as one or is another pod's, or when its waypoint says
/// something unreadable of the caller; 503 when nothing answers there (own ports, unknown hostname,
/// port 0); 401 when it should have come through a waypoint.
pub fn plan_inbound(index: &Index, inbound: &Inbound<'_>) -> Result<InboundPlan, Refusal> {
    let local = inbound.local;
    let authority: Authority = inbound.authority.parse().map_err(refuse_authority)?;
    let here = inbound.socket_destination.ip().to_canonical();
    let (port, service) = match &authority {
        Authority::Addr(addr) => {
            if addr.ip() != here && !answers_for(index, local, *addr) {
                return Err(Refusal::bad_request(format!(
                    "the CONNECT asks for {} but arrived at {here}",
                    addr.ip()
                )));
            }
            let hint = inbound.forwarded_host;
            let asked = inbound.port(addr.port());
            (addr.port(), service_for(index, local, asked, hint))
        }
        Authority::Host(host, port) => {
            let (service, port) = by_hostname(index, local, host, *port)?;
            (port, Some(service))
        }
    };
    if is_own_port(port) {
        return Err(Refusal::unavailable(format!(
            "port {port} is the node proxy's own; a tunnel cannot lead to it"
        )));
    }
    if inbound.transport == Transport::Udp {
        takes_udp(local)?;
    }
    waypoint::require(index, local, inbound.port(port), Some(inbound.asking()))?;
    let called = called_by(index, inbound, port)?;
    let tunnel = local.application_tunnel;
    let dial_port = tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port);
    let proxy_header = match tunnel {
        Some(_) => Some(header(inbound, &authority, service)?),
        None => None,
    };
    let (identity, address) = match &called {
        Some(caller) => (&caller.identity, caller.address),
        None => (inbound.peer, Some(inbound.peer_addr)),
    };
    Ok(InboundPlan {
        dial: SocketAddr::new(here, dial_port),
        proxy_header,
        service: service.cloned(),
        source: address
            .and_then(|address| caller(index, local, address))
            .filter(|source| source.identity == *identity)
            .cloned(),
        caller: called,
    })
}

/// Only who has asked for it is sent UDP by tunnels.
fn takes_udp(local: &Workload) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        let (namespace, name) = (&local.namespace, &local.name);
        Err(Refusal::unavailable(format!("{namespace}/{name} {why}")))
    };
    if !local.takes_udp {
        return refuse(&format!(
            "takes no UDP from tunnels; its annotation {UDP} is not enabled"
        ));
    }
    if local.application_tunnel.is_some() {
        return refuse("is told of its callers by the PROXY protocol, which UDP has no place for");
    }
    Ok(())
}

/// The caller that a waypoint speaks for. What anybody else says is as if it were not said.
fn called_by(index: &Index, inbound: &Inbound<'_>, port: u16) -> Result<Option<Caller>, Refusal> {
    let Some(text) = inbound.caller else {
        return Ok(None);
    };
    let port = inbound.port(port);
    if !waypoint::speaks_for_callers(index, inbound.local, port, inbound.asking()) {
        return Ok(None);
    }
    let identity: Identity = text.parse().map_err(|error: IdentityError| {
        Refusal::bad_request(format!(
            "waypoint {} says who called in {}, which does not read: {error}",
            inbound.peer,
            crate::hbone::CALLER
        ))
    })?;
    Ok(Some(Caller {
        identity: index.trust_domains().settle(identity),
        address: inbound.forwarded_for,
    }))
}

/// The workload at the caller's address.
pub(super) fn caller<'a>(
    index: &'a Index,
    local: &Workload,
    peer_addr: SocketAddr,
) -> Option<&'a Arc<Workload>> {
    index.workload_at(&NetworkAddr::new(local.network.clone(), peer_addr.ip()))
}

fn refuse_authority(error: AuthorityError) -> Refusal {
    match error {
        AuthorityError::Malformed => Refusal::bad_request(error.to_string()),
        AuthorityError::NoHost | AuthorityError::PortZero => {
            Refusal::unavailable(error.to_string())
        }
    }
}

/// Whether this pod may be asked for an address that is not its own: it unwraps tunnels itself,
/// or it is the waypoint of what is asked for.
fn answers_for(index: &Index, local: &Workload, asked: SocketAddr) -> bool {
    if local.application_tunnel.is_some() {
        return true;
    }
    let addr = NetworkAddr::new(local.network.clone(), asked.ip());
    if let Some(service) = index.service_at(&addr, &local.namespace) {
        return waypoint::is_instance_of_any(index, service, local);
    }
    let port = Port {
        transport: Transport::Tcp,
        number: asked.port(),
    };
    index
        .workload_at(&addr)
        .is_some_and(|workload| waypoint::may_reach(index, workload, port, local))
}

/// The service of this hostname that the pod is an endpoint of, and the pod's port for it.
fn by_hostname<'a>(
    index: &'a Index,
    local: &Workload,
    host: &str,
    port: u16,
) -> Result<(&'a Arc<Service>, u16), Refusal> {
    let serving = local.services.iter().find_map(|(key, ports)| {
        let service = index.service(key)?;
        (&*key.name == host).then_some((service, ports))
    });
    let Some((service, ports)) = serving else {
        return Err(
            match index.service_by_hostname(host, &local.namespace).is_some() {
                true => Refusal::bad_request(format!(
                    "{}/{} is no endpoint of {host}",
                    local.namespace, local.name
                )),
                false => Refusal::unavailable(format!("no service has the hostname {host}")),
            },
        );
    };
    match target_port(service, ports, port) {
        Some(target) => Ok((service, target)),
        None => Err(Refusal::unavailable(format!(
            "{}/{} serves {host} on no port {port}",
            local.namespace, local.name
        ))),
    }
}

/// The PROXY protocol header for an application that unwraps tunnels itself.
fn header(
    inbound: &Inbound<'_>,
    authority: &Authority,
    service: Option<&Arc<Service>>,
) -> Result<Header, Refusal> {
    let destination = match authority {
        Authority::Addr(addr) => *addr,
        Authority::Host(host, port) => {
            let v4 = inbound.peer_addr.ip().to_canonical().is_ipv4();
            let vip = service.and_then(|service| {
                let vips = || service.vips.iter().map(|vip| vip.net.addr());
                vips()
                    .find(|ip| ip.is_ipv4() == v4)
                    .or_else(|| vips().next())
            });
            let ip = vip.ok_or_else(|| {
                Refusal::unavailable(format!(
                    "{host} has no virtual IP to name in a PROXY protocol header"
                ))
            })?;
            SocketAddr::new(ip, *port)
        }
    };
    Ok(Header {
        source: inbound.peer_addr,
        destination,
        identity: Some(inbound.peer.clone()),
    })
}
