//! The kinds the lab knows, and the names people give them.

use std::fmt;

/// A kind of object.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// `kind:` of a manifest.
    pub kind: &'static str,
    /// `apiVersion:` values that are understood; the first is the preferred one.
    pub versions: &'static [&'static str],
    /// Names on the command line beside the kind itself, the plural first.
    pub names: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Kind {}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind)
    }
}

impl Kind {
    /// The kind of a manifest with this `kind:`.
    #[must_use]
    pub fn of(kind: &str) -> Option<&'static Self> {
        ALL_KINDS.iter().find(|known| known.kind == kind)
    }

    /// The kind a person means: singular, plural or short, upper or lower case.
    #[must_use]
    pub fn called(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase();
        ALL_KINDS
            .iter()
            .find(|known| known.kind.to_ascii_lowercase() == name || known.names.contains(&&*name))
    }
}

const fn kind(
    kind: &'static str,
    versions: &'static [&'static str],
    names: &'static [&'static str],
) -> Kind {
    Kind {
        kind,
        versions,
        names,
        namespaced: true,
    }
}

const fn cluster(
    kind: &'static str,
    versions: &'static [&'static str],
    names: &'static [&'static str],
) -> Kind {
    Kind {
        kind,
        versions,
        names,
        namespaced: false,
    }
}

const CORE: &[&str] = &["v1"];
const APPS: &[&str] = &["apps/v1"];
const ROUTES: &[&str] = &[
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1beta1",
];
const TCP_ROUTES: &[&str] = &[
    "gateway.networking.k8s.io/v1alpha2",
    "gateway.networking.k8s.io/v1",
];
const BACKEND_TLS: &[&str] = &[
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1alpha3",
];
const EXPERIMENTAL: &[&str] = &["gateway.networking.x-k8s.io/v1alpha1"];
const AMBIT: &[&str] = &["ambit.dev/v1alpha1"];
const SECURITY: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];
const NETWORKING: &[&str] = &[
    "networking.istio.io/v1",
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1alpha3",
];

/// Every kind.
pub const ALL_KINDS: &[Kind] = &[
    cluster("Namespace", CORE, &["namespaces", "ns"]),
    cluster("Node", CORE, &["nodes", "no"]),
    kind("Pod", CORE, &["pods", "po"]),
    kind("Service", CORE, &["services", "svc"]),
    kind("ServiceAccount", CORE, &["serviceaccounts", "sa"]),
    kind("ConfigMap", CORE, &["configmaps", "cm"]),
    kind("Secret", CORE, &["secrets"]),
    kind("Deployment", APPS, &["deployments", "deploy"]),
    kind("ReplicaSet", APPS, &["replicasets", "rs"]),
    kind("StatefulSet", APPS, &["statefulsets", "sts"]),
    kind("DaemonSet", APPS, &["daemonsets", "ds"]),
    kind("Job", &["batch/v1"], &["jobs"]),
    kind(
        "EndpointSlice",
        &["discovery.k8s.io/v1"],
        &["endpointslices"],
    ),
    cluster("GatewayClass", ROUTES, &["gatewayclasses", "gc"]),
    kind("Gateway", ROUTES, &["gateways", "gtw"]),
    kind("HTTPRoute", ROUTES, &["httproutes"]),
    kind("GRPCRoute", ROUTES, &["grpcroutes"]),
    kind("TCPRoute", TCP_ROUTES, &["tcproutes"]),
    kind("TLSRoute", TCP_ROUTES, &["tlsroutes"]),
    kind("ReferenceGrant", ROUTES, &["referencegrants", "refgrant"]),
    kind("BackendTLSPolicy", BACKEND_TLS, &["backendtlspolicies"]),
    kind(
        "XBackendTrafficPolicy",
        EXPERIMENTAL,
        &["xbackendtrafficpolicies"],
    ),
    kind("RateLimit", AMBIT, &["ratelimits"]),
    kind("FaultInjection", AMBIT, &["faultinjections"]),
    kind("ExternalAuthorizer", AMBIT, &["externalauthorizers"]),
    kind(
        "AuthorizationPolicy",
        SECURITY,
        &["authorizationpolicies", "ap"],
    ),
    kind(
        "PeerAuthentication",
        SECURITY,
        &["peerauthentications", "pa"],
    ),
    kind(
        "RequestAuthentication",
        SECURITY,
        &["requestauthentications", "ra"],
    ),
    kind("ServiceEntry", NETWORKING, &["serviceentries", "se"]),
    kind("WorkloadEntry", NETWORKING, &["workloadentries", "we"]),
    kind("DestinationRule", NETWORKING, &["destinationrules", "dr"]),
    kind("Telemetry", &["telemetry.istio.io/v1"], &["telemetries"]),
    kind(
        "NetworkPolicy",
        &["networking.k8s.io/v1"],
        &["networkpolicies", "netpol"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_name_kinds_in_many_ways() {
        for (name, kind) in [
            ("pods", Some("Pod")),
            ("Pod", Some("Pod")),
            ("po", Some("Pod")),
            ("deploy", Some("Deployment")),
            ("HTTPRoutes", Some("HTTPRoute")),
            ("widgets", None),
        ] {
            assert_eq!(Kind::called(name).map(|found| found.kind), kind, "{name}");
        }
    }

    #[test]
    fn no_name_means_two_kinds() {
        let mut names: Vec<String> = ALL_KINDS
            .iter()
            .flat_map(|kind| {
                let own = kind.kind.to_ascii_lowercase();
                kind.names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .chain([own])
                    .collect::<Vec<_>>()
            })
            .collect();
        names.sort();
        let total = names.len();
        names.dedup();
        assert_eq!(names.len(), total);
    }
}
