//! The end of a way: the pod that serves, and what its node proxy says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::authz;
use ambit_core::identity::Identity;
use ambit_core::model::{Health, Service, TunnelProtocol, Workload};

use super::callers::{is_pod, why_outside};
use super::{ENDPOINT, Steps, Walk};
use crate::index::Index;
use crate::translate::peer;

impl Walk<'_> {
    /// The node proxy of an endpoint: its policies judge the caller, and the waypoint as well.
    pub(super) fn arrives(
        &self,
        backend: &Arc<Service>,
        port: u16,
        waypoint: Option<&NamespacedName>,
        steps: &mut Steps,
    ) -> bool {
        let Some((workload, destination)) = self.judging(backend, port, steps) else {
            return true;
        };
        let source_ip = self.source_addr().ip();
        let facts = |identity| authz::Facts {
            source: Some(identity),
            source_ip,
            destination,
        };
        let proxy = waypoint.and_then(|waypoint| {
            let trust_domain = self.identity.trust_domain().clone();
            Identity::new(
                trust_domain,
                waypoint.namespace.clone(),
                waypoint.name.clone(),
            )
            .ok()
        });
        let mut parties = vec![facts(self.identity)];
        parties.extend(proxy.as_ref().map(facts));
        let verdict = authz::authorize_all(self.mesh, workload, &parties);
        let (namespace, name) = (&workload.namespace, &workload.name);
        steps.say(
            ENDPOINT,
            format_args!("{verdict} ({namespace}/{name} port {})", destination.port()),
        );
        self.says_open(workload, destination.port(), steps);
        self.says_others(backend, port, steps);
        verdict.allowed
    }

    /// Says which PeerAuthentication has refused plain text, where the node proxy cannot tell.
    pub(super) fn says_strict(
        &self,
        workload: &Workload,
        verdict: &authz::Verdict,
        steps: &mut Steps,
    ) {
        let mesh = self.index.mesh();
        let decided = verdict.decided_by().map(|(policy, _)| policy);
        if verdict.allowed || decided != Some(&peer::static_key(mesh)) {
            return;
        }
        let objects = self.index.objects();
        let (namespace, name) = (&workload.namespace, &workload.name);
        let pod = objects.pods.find(namespace, name);
        let pod = pod.filter(|_| is_pod(workload));
        let found = pod.and_then(|pod| peer::strict_by(namespace, &pod.metadata, objects, mesh));
        if let Some(object) = found {
            steps.say(ENDPOINT, format_args!("it is PeerAuthentication {object}"));
        }
    }

    /// Says which endpoints no proxy judges, where the one that speaks for all is captured.
    pub(super) fn says_others(&self, service: &Service, port: u16, steps: &mut Steps) {
        let ready = self.all_serving(service, port).map(|(it, _)| it);
        let ready = ready.filter(|it| it.health == Health::Healthy);
        let mut others: Vec<_> = ready
            .filter(|it| it.tunnel_protocol == TunnelProtocol::None)
            .collect();
        others.sort_by(|a, b| a.uid.cmp(&b.uid));
        let Some((first, more)) = others.split_first() else {
            return;
        };
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (namespace, name) = (&first.namespace, &first.name);
        steps.say(
            ENDPOINT,
            format_args!("other endpoints are not captured: {namespace}/{name}{more}"),
        );
    }

    /// The workload whose proxy judges what arrives at this port of a service, and where. None where no proxy of the mesh does,
    /// or nobody serves; why is said.
    pub(super) fn judging(
        &self,
        service: &Service,
        port: u16,
        steps: &mut Steps,
    ) -> Option<(&Workload, SocketAddr)> {
        let Some((workload, destination)) = self.serving(service, port) else {
            let key = &service.key;
            steps.not_asked(ENDPOINT, format_args!("no pod serves {key} port {port}"));
            return None;
        };
        (!unjudged(self.index, workload, steps)).then_some((workload, destination))
    }

    /// A workload that serves this port of a service, and where: one that is ready and in the mesh, if there is any.
    fn serving(&self, service: &Service, port: u16) -> Option<(&Arc<Workload>, SocketAddr)> {
        self.all_serving(service, port).min_by_key(|(it, _)| {
            let unready = it.health != Health::Healthy;
            (
                unready,
                it.tunnel_protocol != TunnelProtocol::Hbone,
                it.uid.clone(),
            )
        })
    }

    fn all_serving(
        &self,
        service: &Service,
        port: u16,
    ) -> impl Iterator<Item = (&Arc<Workload>, SocketAddr)> {
        self.mesh.workloads().filter_map(move |workload| {
            let mut of_services = workload.services.iter();
            let (_, ports) = of_services.find(|(key, _)| *key == service.key)?;
            let mapping = ports.iter().find(|mapping| mapping.service_port == port)?;
            let ip = workload.addresses.first().copied();
            let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            Some((workload, SocketAddr::new(ip, mapping.target_port)))
        })
    }
}

/// Whether no proxy of the mesh is there to judge what arrives at this workload; said if it is so.
fn unjudged(index: &Index, workload: &Workload, steps: &mut Steps) -> bool {
    let (namespace, name) = (&workload.namespace, &workload.name);
    match workload.tunnel_protocol {
        TunnelProtocol::Hbone => return false,
        TunnelProtocol::None => {
            let why = match is_pod(workload) {
                true => format!(" ({})", why_outside(index, workload)),
                false => String::new(),
            };
            steps.say(
                ENDPOINT,
                format_args!(
                    "there is none: {namespace}/{name} is not in the mesh{why}, no policy is enforced"
                ),
            );
        }
        TunnelProtocol::LegacyIstioMtls => steps.not_asked(
            ENDPOINT,
            format_args!("{namespace}/{name} has a sidecar, which decides"),
        ),
    }
    true
}
