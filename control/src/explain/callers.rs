//! Who may be meant by the caller of a question: pods and machines of its account, in the mesh or not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::index::Index as Mesh;
use ambit_core::model::{NetworkMode, TunnelProtocol, Workload};

use super::{Question, Steps, Walk};
use crate::index::Index;
use crate::translate::labels::{DATAPLANE_MODE, REDIRECTION, TUNNEL, label};

/// Who runs as an account. One speaks for all that call as it does: of those in the mesh, of those outside, of those with a sidecar,
/// in this order; `None` for nobody. Those that serve what is called are not meant, unless no other has the account: what they call
/// is another service.
pub(super) fn callers<'a>(
    index: &Index,
    mesh: &'a Mesh,
    called: &NamespacedName,
    identity: &Identity,
) -> Vec<Option<&'a Workload>> {
    let mut all: Vec<_> = mesh
        .workloads()
        .filter(|it| it.identity == *identity && calls(index, it))
        .collect();
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    if all.iter().any(|it| !serves(it, called)) {
        all.retain(|it| !serves(it, called));
    }
    let sorts = [
        TunnelProtocol::Hbone,
        TunnelProtocol::None,
        TunnelProtocol::LegacyIstioMtls,
    ];
    let first = |how| all.iter().find(|it| it.tunnel_protocol == how);
    let found = sorts.into_iter().filter_map(first);
    let found: Vec<_> = found.map(|it| Some(&***it)).collect();
    match found.is_empty() {
        true => vec![None],
        false => found,
    }
}

/// Whether a workload is more than an address that is called: a pod, or a machine whose entry names its account or has a proxy.
/// Other endpoints have an account because every workload has one.
fn calls(index: &Index, workload: &Workload) -> bool {
    if is_pod(workload) {
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

pub(super) fn is_pod(workload: &Workload) -> bool {
    workload.uid.contains("//Pod/")
}

fn is_machine(workload: &Workload) -> bool {
    workload.uid.contains("/WorkloadEntry/")
}

fn serves(workload: &Workload, called: &NamespacedName) -> bool {
    workload.services.iter().any(|(key, _)| key == called)
}

/// Who speaks in a step about a caller.
fn at(pod: &Workload) -> String {
    format!("caller {}/{}", pod.namespace, pod.name)
}

/// Why a workload without a proxy is not in the mesh, and how it comes there.
pub(super) fn why_outside(index: &Index, workload: &Workload) -> String {
    let (namespace, name) = (&workload.namespace, &workload.name);
    if is_machine(workload) {
        return format!(
            "its WorkloadEntry has neither label {TUNNEL}=http nor annotation {REDIRECTION}=enabled"
        );
    }
    if workload.network_mode == NetworkMode::HostNetwork {
        return "it is on its node's network".to_owned();
    }
    let pod = index.objects().pods.find(namespace, name);
    let own = pod.and_then(|pod| label(&pod.metadata, DATAPLANE_MODE));
    let of_namespace = index.objects().namespace_label(namespace, DATAPLANE_MODE);
    match (own, of_namespace) {
        (Some("none"), _) => format!("its label {DATAPLANE_MODE} is none"),
        (Some("ambient"), _) | (_, Some("ambient")) => format!(
            "it is labelled {DATAPLANE_MODE}=ambient, but its node's agent has not captured it (no annotation \
             {REDIRECTION}=enabled): its events say why"
        ),
        _ => format!(
            "neither namespace {namespace} nor the pod is labelled {DATAPLANE_MODE}=ambient"
        ),
    }
}

impl Walk<'_> {
    /// Says whom the next steps are about, where the others say it not: one of `several`, or one that serves what it calls.
    pub(super) fn introduce(&self, several: bool, steps: &mut Steps) {
        let Some(source) = self.source else {
            return;
        };
        if serves(source, &self.service.key) {
            let Question { from, to, .. } = self.question;
            steps.say(
                &at(source),
                format_args!("serves {to} itself: no other pod runs as {from}"),
            );
        } else if several && source.tunnel_protocol == TunnelProtocol::Hbone {
            steps.say(&at(source), "is in the mesh");
        }
    }

    /// Whether the request passes that no node proxy and no waypoint of the caller's sees; `None` when one does.
    pub(super) fn past_the_mesh(&self, steps: &mut Steps) -> Option<bool> {
        let source = self.source?;
        match source.tunnel_protocol {
            TunnelProtocol::Hbone => self.past_the_caller(source, steps),
            TunnelProtocol::LegacyIstioMtls => {
                steps.not_asked(&at(source), "its sidecar decides how it calls");
                Some(true)
            }
            TunnelProtocol::None => {
                let why = why_outside(self.index, source);
                steps.say(
                    &at(source),
                    format_args!("is not in the mesh and calls in plain text: {why}"),
                );
                Some(self.arrives_in_plain_text(steps))
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
