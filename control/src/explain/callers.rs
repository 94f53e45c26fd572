//! Who may be meant by the caller of a question: pods of its account, in the mesh or not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::index::Index as Mesh;
use ambit_core::model::{NetworkMode, TunnelProtocol, Workload};

use super::{Question, Steps, Walk};
use crate::index::Index;
use crate::translate::labels::REDIRECTION;

/// One pod for all that call as it does.
#[derive(Debug)]
pub(super) enum Caller<'a> {
    /// No pod of the account is there.
    Nobody,
    /// It is captured, or ends tunnels itself.
    InTheMesh(&'a Arc<Workload>),
    /// It calls in plain text, and nobody knows by whom.
    Outside(&'a Arc<Workload>),
    /// A sidecar decides how it calls, which is not asked here.
    Sidecar(&'a Arc<Workload>),
}

/// The pods of an account, one of each sort. Those that serve what is called are not meant: they share its account, and what
/// they call is another service.
pub(super) fn callers<'a>(
    mesh: &'a Mesh,
    called: &NamespacedName,
    identity: &Identity,
) -> Vec<Caller<'a>> {
    let mut pods: Vec<_> = mesh
        .workloads()
        .filter(|it| it.identity == *identity && !it.services.iter().any(|(key, _)| key == called))
        .collect();
    pods.sort_by(|a, b| a.uid.cmp(&b.uid));
    let first = |how| pods.iter().find(|pod| pod.tunnel_protocol == how).copied();
    let found = [
        first(TunnelProtocol::Hbone).map(Caller::InTheMesh),
        first(TunnelProtocol::None).map(Caller::Outside),
        first(TunnelProtocol::LegacyIstioMtls).map(Caller::Sidecar),
    ];
    let found: Vec<_> = found.into_iter().flatten().collect();
    match found.is_empty() {
        true => vec![Caller::Nobody],
        false => found,
    }
}

/// Why a caller is not asked of whom there is no pod.
pub(super) fn none(question: &Question) -> String {
    format!(
        "no pod runs as {}, or none but those of Service {}",
        question.from, question.to
    )
}

impl Caller<'_> {
    pub(super) fn pod(&self) -> Option<&Workload> {
        match self {
            Self::Nobody => None,
            Self::InTheMesh(pod) | Self::Outside(pod) | Self::Sidecar(pod) => Some(pod),
        }
    }

    fn at(&self) -> String {
        let pod = self.pod();
        pod.map_or_else(String::new, |it| {
            format!("caller {}/{}", it.namespace, it.name)
        })
    }

    /// Says whom the next steps are about, where the others say it not.
    pub(super) fn introduce(&self, steps: &mut Steps) {
        if matches!(self, Self::InTheMesh(_)) {
            steps.say(&self.at(), "is in the mesh");
        }
    }
}

impl Walk<'_> {
    /// Whether the request passes that no node proxy and no waypoint of the caller's sees; `None` when one does.
    pub(super) fn past_the_mesh(
        &self,
        caller: &Caller<'_>,
        index: &Index,
        steps: &mut Steps,
    ) -> Option<bool> {
        match caller {
            Caller::Nobody => None,
            Caller::InTheMesh(_) => self.past_the_caller(index, steps),
            Caller::Sidecar(_) => {
                steps.not_asked(&caller.at(), "its sidecar decides how it calls");
                Some(true)
            }
            Caller::Outside(pod) => {
                let why = match pod.network_mode {
                    NetworkMode::HostNetwork => "it is on its node's network".to_owned(),
                    NetworkMode::Standard => format!("no annotation {REDIRECTION}=enabled"),
                };
                steps.say(
                    &caller.at(),
                    format_args!("is not in the mesh and calls in plain text: {why}"),
                );
                Some(self.arrives_in_plain_text(index, steps))
            }
        }
    }

    /// Where the caller calls from.
    pub(super) fn source_addr(&self) -> SocketAddr {
        let ip = self.source.and_then(|it| it.addresses.first().copied());
        SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0)
    }
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
