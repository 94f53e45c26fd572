//! What is applied to a cluster: the objects of `manifests/`, as they stand there or as an installation wants them.
//!
//! `manifests/base` is the one source. [`install`] prints it, [`chart`] turns it into the Helm chart; what may differ
//! between installations is in the table of `places` and nowhere else.

pub mod chart;
mod documents;
mod places;

use ambit_core::plan::OutboundTrafficPolicy;
use ambit_core::trust_domain::{Aliases, TrustDomain};
use documents::{Document, base, crds};

/// What installations differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The image of every container.
    pub image: String,
    /// Replicas of the control plane.
    pub replicas: u32,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Its other names, while it is renamed.
    pub trust_domain_aliases: Aliases,
    /// What becomes of connections of pods to what the mesh does not know.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The folder of CNI plugins on nodes.
    pub cni_bin_dir: String,
    /// The folder of CNI configurations on nodes.
    pub cni_conf_dir: String,
    /// Whether GatewayClasses are among the objects; they need the CRDs of the Gateway API.
    pub gateway_classes: bool,
    /// Whether NetworkPolicies are among the objects.
    pub network_policies: bool,
}

impl Default for Settings {
    /// As `manifests/base` stands.
    fn default() -> Self {
        Self {
            image: concat!("ambit:", env!("CARGO_PKG_VERSION")).to_owned(),
            replicas: 2,
            trust_domain: TrustDomain::default(),
            trust_domain_aliases: Aliases::default(),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            cni_bin_dir: "/opt/cni/bin".to_owned(),
            cni_conf_dir: "/etc/cni/net.d".to_owned(),
            gateway_classes: true,
            network_policies: true,
        }
    }
}

/// The objects of an installation, for `kubectl apply -f -`.
#[must_use]
pub fn install(settings: &Settings) -> String {
    let wanted = base().filter(|document| places::wanted(document, settings));
    let set = wanted.map(|document| places::set(&document.text, settings));
    join(crds().map(|document| document.text).chain(set))
}

/// The same objects for `kubectl delete -f -`, last first: agents that are still there see that they are to clean up their
/// nodes while they may still ask. Without `crds` the definitions stay, and with them the objects that users made of them.
#[must_use]
pub fn uninstall(crds_too: bool) -> String {
    let mut all: Vec<Document> = crds().filter(|_| crds_too).chain(base()).collect();
    all.reverse();
    // The namespace takes everything in it along: it comes last.
    all.sort_by_key(|document| document.kind == "Namespace");
    join(all.into_iter().map(|document| document.text))
}

fn join(documents: impl Iterator<Item = String>) -> String {
    documents.collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests;
