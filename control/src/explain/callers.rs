//! Who may be meant by the caller of a question: pods and machines of its account, in the mesh or not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::index::Index as Mesh;
use ambit_core::model::{NetworkMode, TunnelProtocol, Workload};

use super::{Question, Steps, Walk};
use crate::index::Index;
use crate::translate::labels::{REDIRECTION, TUNNEL};

/// One pod, or machine, for all that call as it does.
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

/// Who runs as an account, one of each sort. Those that serve what is called are not meant, unless no other has the account: what
/// they call is another service.
pub(super) fn callers<'a>(
    index: &Index,
    mesh: &'a Mesh,
    called: &NamespacedName,
    identity: &Identity,
) -> Vec<Caller<'a>> {
    let mut all: Vec<_> = mesh
        .workloads()
        .filter(|it| it.identity == *identity && calls(index, it))
        .collect();
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    if all.iter().any(|it| !serves(it, called)) {
        all.retain(|it| !serves(it, called));
    }
    let first = |how| all.iter().find(|it| it.tunnel_protocol == how).copied();
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

/// Whether a workload is more than an address that is called: a pod, or a machine whose entry names its account or has a proxy.
/// Other endpoints have an account because every workload has one.
fn calls(index: &Index, workload: &Workload) -> bool {
    if workload.uid.contains("//Pod/") {
        return true;
    }
    if !is_machine(workload) || workload.is_host() {
        return false;
    }
    let (namespace, name) = (&workload.namespace, &workload.name);
    let entry = index.objects().workload_entries.find(namespace, name);
    workload.tunnel_protocol == TunnelProtocol::Hbone
        || entry.is_some_and(|it| {
            let account = it.spec.service_account.as_deref();
            account.is_some_and(|it| !it.is_empty())
        })
}

fn is_machine(workload: &Workload) -> bool {
    workload.uid.contains("/WorkloadEntry/")
}

fn serves(workload: &Workload, called: &NamespacedName) -> bool {
    workload.services.iter().any(|(key, _)| key == called)
}

/// Why a caller is not asked of whom there is no pod.
pub(super) fn none(question: &Question) -> String {
    format!("no pod runs as {}", question.from)
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
}

impl Walk<'_> {
    /// Says whom the next steps are about, where the others say it not: one of `several`, or one that serves what it calls.
    pub(super) fn introduce(&self, caller: &Caller<'_>, several: bool, steps: &mut Steps) {
        let pod = caller.pod();
        if pod.is_some_and(|it| serves(it, &self.service.key)) {
            let Question { from, to, .. } = self.question;
            steps.say(
                &caller.at(),
                format_args!("serves {to} itself: no other pod runs as {from}"),
            );
        } else if several && matches!(caller, Caller::InTheMesh(_)) {
            steps.say(&caller.at(), "is in the mesh");
        }
    }

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
                    _ if is_machine(pod) => {
                        format!(
                            "its WorkloadEntry has neither label {TUNNEL}=http nor annotation {REDIRECTION}=enabled"
                        )
                    }
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
