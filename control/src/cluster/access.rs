//! Every call that the control plane makes to the API server: what its roles have to allow, and no more.

/// What is called, with these verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource as roles write it: `pods` or `gateways/status`.
    pub resource: &'static str,
    /// As roles write them.
    pub verbs: &'static [&'static str],
    /// Where.
    pub scope: Scope,
}

/// Where a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster, or in all of its namespaces.
    Cluster,
    /// In the namespace of the installation only.
    Own,
}

const fn call(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Call {
    Call {
        group,
        resource,
        verbs,
        scope: Scope::Cluster,
    }
}

const fn own(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Call {
    Call {
        scope: Scope::Own,
        ..call(group, resource, verbs)
    }
}

const FOLLOW: &[&str] = &["list", "watch"];
/// Followed, and read before its status is written.
const FOLLOW_AND_READ: &[&str] = &["get", "list", "watch"];
/// Followed, applied and removed.
const KEEP: &[&str] = &["create", "delete", "get", "list", "patch", "watch"];
const PATCH: &[&str] = &["patch"];
const GATEWAY: &str = "gateway.networking.k8s.io";
const GATEWAY_X: &str = "gateway.networking.x-k8s.io";
const SECURITY: &str = "security.istio.io";
const NETWORKING: &str = "networking.istio.io";
const AMBIT: &str = "ambit.dev";

/// All calls, each resource once in a scope.
pub const CALLS: &[Call] = &[
    call("", "namespaces", FOLLOW),
    call("", "nodes", FOLLOW),
    call("", "pods", FOLLOW),
    // The certificates that a BackendTLSPolicy refers to, each by its name, and the roots of the mesh and what is revoked of
    // it, which are applied in every namespace. Secrets that a policy refers to are asked for as well, where a role of
    // their namespace allows it.
    call("", "configmaps", &["create", "list", "patch", "watch"]),
    call("discovery.k8s.io", "endpointslices", FOLLOW),
    // Kinds that are not there yet are looked for when they are defined.
    call("apiextensions.k8s.io", "customresourcedefinitions", FOLLOW),
    call(SECURITY, "peerauthentications", FOLLOW),
    call(GATEWAY, "referencegrants", FOLLOW),
    call(SECURITY, "authorizationpolicies", FOLLOW_AND_READ),
    call(SECURITY, "authorizationpolicies/status", PATCH),
    call(SECURITY, "requestauthentications", FOLLOW_AND_READ),
    call(SECURITY, "requestauthentications/status", PATCH),
    call(NETWORKING, "destinationrules", FOLLOW),
    call(NETWORKING, "workloadentries", FOLLOW),
    call(NETWORKING, "serviceentries", FOLLOW_AND_READ),
    call(NETWORKING, "serviceentries/status", PATCH),
    call(GATEWAY, "gatewayclasses", FOLLOW_AND_READ),
    call(GATEWAY, "gatewayclasses/status", PATCH),
    call(GATEWAY, "gateways", FOLLOW_AND_READ),
    call(GATEWAY, "gateways/status", PATCH),
    call(GATEWAY, "httproutes", FOLLOW_AND_READ),
    call(GATEWAY, "httproutes/status", PATCH),
    call(GATEWAY, "grpcroutes", FOLLOW_AND_READ),
    call(GATEWAY, "grpcroutes/status", PATCH),
    call(GATEWAY, "tlsroutes", FOLLOW_AND_READ),
    call(GATEWAY, "tlsroutes/status", PATCH),
    call(GATEWAY, "tcproutes", FOLLOW_AND_READ),
    call(GATEWAY, "tcproutes/status", PATCH),
    call(GATEWAY, "backendtlspolicies", FOLLOW_AND_READ),
    call(GATEWAY, "backendtlspolicies/status", PATCH),
    call(GATEWAY_X, "xbackendtrafficpolicies", FOLLOW_AND_READ),
    call(GATEWAY_X, "xbackendtrafficpolicies/status", PATCH),
    call(AMBIT, "ratelimits", FOLLOW_AND_READ),
    call(AMBIT, "ratelimits/status", PATCH),
    call(AMBIT, "faultinjections", FOLLOW_AND_READ),
    call(AMBIT, "faultinjections/status", PATCH),
    call(AMBIT, "externalauthorizers", FOLLOW_AND_READ),
    call(AMBIT, "externalauthorizers/status", PATCH),
    call("", "services", KEEP),
    call("", "services/status", PATCH),
    call("", "serviceaccounts", KEEP),
    call("apps", "deployments", KEEP),
    call("autoscaling", "horizontalpodautoscalers", KEEP),
    call("policy", "poddisruptionbudgets", KEEP),
    call("authentication.k8s.io", "tokenreviews", &["create"]),
    // `cacerts` and `ambit-ca`.
    own("", "secrets", &["create", "list", "watch"]),
    // `ambit-control`.
    own(
        "coordination.k8s.io",
        "leases",
        &["create", "get", "update"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_resource_is_named_once_with_its_verbs_in_order() {
        let mut named = BTreeSet::new();
        for call in CALLS {
            let of = (call.group, call.resource, call.scope == Scope::Own);
            assert!(named.insert(of), "{call:?}");
            assert!(call.verbs.is_sorted(), "{call:?}");
        }
    }
}
