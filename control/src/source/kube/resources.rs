//! The kinds that are followed, and where the API server has them.

use crate::cluster::collection::Collection;
use crate::source::Kind;

const CORE: &[&str] = &["v1"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const GATEWAY: &str = "gateway.networking.k8s.io";
const AMBIT: &[&str] = &["v1alpha1"];

/// Every kind that is followed as a whole. ServiceAccounts say nothing that pods do not say; of ConfigMaps
/// and Secrets only those are followed that something refers to.
pub const FOLLOWED: &[Kind] = &[
    Kind::Namespace,
    Kind::Node,
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::AuthorizationPolicy,
    Kind::PeerAuthentication,
    Kind::RequestAuthentication,
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::HTTPRoute,
    Kind::GRPCRoute,
    Kind::TLSRoute,
    Kind::TCPRoute,
    Kind::ReferenceGrant,
    Kind::BackendTLSPolicy,
    Kind::XBackendTrafficPolicy,
    Kind::DestinationRule,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::RateLimit,
    Kind::FaultInjection,
    Kind::ExternalAuthorizer,
];

/// The definitions of kinds that are not Kubernetes' own.
#[must_use]
pub fn definitions() -> Collection {
    Collection::all("apiextensions.k8s.io", CORE, "customresourcedefinitions")
}

/// All objects of a kind.
#[must_use]
pub fn collection(kind: Kind) -> Collection {
    let core = |plural| Collection::all("", CORE, plural);
    let gateway = |versions, plural| Collection::all(GATEWAY, versions, plural);
    let security = |plural| Collection::all("security.istio.io", SECURITY, plural);
    let networking = |plural| Collection::all("networking.istio.io", NETWORKING, plural);
    let ambit = |plural| Collection::all("ambit.dev", AMBIT, plural);
    match kind {
        Kind::Namespace => core("namespaces"),
        Kind::Node => core("nodes"),
        Kind::Pod => core("pods"),
        Kind::Service => core("services"),
        Kind::ServiceAccount => core("serviceaccounts"),
        Kind::ConfigMap => core("configmaps"),
        Kind::Secret => core("secrets"),
        Kind::EndpointSlice => Collection::all("discovery.k8s.io", CORE, "endpointslices"),
        Kind::AuthorizationPolicy => security("authorizationpolicies"),
        Kind::PeerAuthentication => security("peerauthentications"),
        Kind::RequestAuthentication => security("requestauthentications"),
        Kind::DestinationRule => networking("destinationrules"),
        Kind::ServiceEntry => networking("serviceentries"),
        Kind::WorkloadEntry => networking("workloadentries"),
        Kind::GatewayClass => gateway(&["v1", "v1beta1"], "gatewayclasses"),
        Kind::Gateway => gateway(&["v1", "v1beta1"], "gateways"),
        Kind::HTTPRoute => gateway(&["v1", "v1beta1"], "httproutes"),
        Kind::GRPCRoute => gateway(&["v1", "v1alpha2"], "grpcroutes"),
        Kind::TLSRoute => gateway(&["v1", "v1alpha3", "v1alpha2"], "tlsroutes"),
        Kind::TCPRoute => gateway(&["v1", "v1alpha2"], "tcproutes"),
        Kind::ReferenceGrant => gateway(&["v1", "v1beta1"], "referencegrants"),
        Kind::BackendTLSPolicy => gateway(&["v1", "v1alpha3"], "backendtlspolicies"),
        Kind::XBackendTrafficPolicy => Collection::all(
            "gateway.networking.x-k8s.io",
            &["v1alpha1"],
            "xbackendtrafficpolicies",
        ),
        Kind::RateLimit => ambit("ratelimits"),
        Kind::FaultInjection => ambit("faultinjections"),
        Kind::ExternalAuthorizer => ambit("externalauthorizers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::access::{CALLS, Scope};

    #[test]
    fn what_is_followed_is_in_the_table_of_calls() {
        let kinds = FOLLOWED.iter().chain(&[Kind::ConfigMap]);
        for of in kinds.map(|kind| collection(*kind)).chain([definitions()]) {
            for verb in ["list", "watch"] {
                let allowed = CALLS.iter().any(|call| {
                    (call.group, call.resource) == (of.group, of.plural)
                        && call.scope == Scope::Cluster
                        && call.verbs.contains(&verb)
                });
                assert!(allowed, "{verb} {}", of.plural);
            }
        }
    }
}
