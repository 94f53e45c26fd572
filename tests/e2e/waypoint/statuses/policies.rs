//! Conditions of policies and of the services that are bound to a waypoint.

use serde_json::Value;

use super::super::scene::lab;
use super::{Case, GOOD, conditions};
use crate::fixtures::text;

const MISSING: &[&str] = &["WaypointAccepted=False/TargetNotFound"];

#[test]
fn policies_and_services_are_told_whether_a_waypoint_has_them() {
    let lab = lab();
    let policy = |kind: &str, service: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: mesh}}\n\
             spec: {{targetRefs: [{{kind: Service, group: \"\", name: {service}}}]{spec}}}\n"
        )
    };
    let untargeted = |kind: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: elsewhere}}\n\
             spec: {{selector: {{matchLabels: {{version: nobody}}}}{spec}}}\n"
        )
    };
    let methods = "rules: [{to: [{operation: {methods: [GET]}}]}]";
    let service = |labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: elsewhere, labels: {{{labels}}}}}\n\
             spec: {{selector: {{version: other}}, ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    let tls = |ca: &str, target: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: mesh}}\ndata: {{ca.crt: {ca}}}\n\
             ---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: p, namespace: mesh}}\n\
             spec:\n  targetRefs: [{{group: \"\", kind: Service, name: {target}}}]\n  \
             validation: {{hostname: v1.example.com, caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: ca}}]}}\n"
        )
    };
    let traffic = |name: &str, target: &str, percent: &str| {
        format!(
            "---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
             metadata: {{name: {name}, namespace: mesh}}\nspec:\n  targetRefs: [{{group: \"\", kind: Service, name: {target}}}]\n  \
             retryConstraint: {{budget: {{percent: {percent}, interval: 10s}}}}\n"
        )
    };
    let authorizer = |backend: &str| {
        format!(
            "---\napiVersion: ambit.dev/v1alpha1\nkind: ExternalAuthorizer\nmetadata: {{name: p, namespace: istio-system}}\n\
             spec: {{protocol: HTTP, backendRef: {{name: {backend}, namespace: mesh, port: 80}}}}\n"
        )
    };
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
         metadata: {name: g, namespace: mesh}\nspec:\n  \
         from: [{group: ambit.dev, kind: ExternalAuthorizer, namespace: istio-system}]\n  to: [{group: \"\", kind: Service}]\n";
    let roots = lab.object("configmap", "mesh/istio-ca-root-cert");
    let roots = Value::String(text(&roots["data"]["root-cert.pem"])).to_string();
    let rules = ", rules: [{}]";
    let tokens = ", jwtRules: [{issuer: a, jwksUri: \"https://a.example/keys\"}]";
    for (name, manifest, object, part, wanted, said) in [
        (
            "a policy",
            policy("AuthorizationPolicy", "v1", rules),
            ("authorizationpolicy", "mesh/p"),
            "",
            &["WaypointAccepted=True/Accepted"][..],
            "",
        ),
        (
            "a policy for nobody",
            policy("AuthorizationPolicy", "gone", rules),
            ("authorizationpolicy", "mesh/p"),
            "",
            MISSING,
            "not WaypointAccepted (TargetNotFound)",
        ),
        (
            "a policy of a service without a waypoint",
            policy("AuthorizationPolicy", "other", rules)
                .replace("namespace: mesh", "namespace: elsewhere"),
            ("authorizationpolicy", "elsewhere/p"),
            "",
            &["WaypointAccepted=False/AncestorNotBound"],
            "label it or its namespace istio.io/use-waypoint=NAME",
        ),
        (
            "a policy that makes no sense",
            policy("AuthorizationPolicy", "v1", ", action: SHRUG, rules: [{}]"),
            ("authorizationpolicy", "mesh/p"),
            "",
            &["WaypointAccepted=False/Invalid"],
            "\"SHRUG\" is not ALLOW, DENY, CUSTOM or AUDIT",
        ),
        (
            "tokens",
            policy("RequestAuthentication", "v1", tokens),
            ("requestauthentication", "mesh/p"),
            "",
            &["WaypointAccepted=True/Accepted"],
            "",
        ),
        (
            "a policy for node proxies",
            untargeted("AuthorizationPolicy", rules),
            ("authorizationpolicy", "elsewhere/p"),
            "",
            &["ZtunnelAccepted=True/Accepted"],
            "spec.selector selects no pod of namespace elsewhere now: none has version=nobody",
        ),
        (
            "an ALLOW of requests for node proxies",
            untargeted("AuthorizationPolicy", &format!(", {methods}")),
            ("authorizationpolicy", "elsewhere/p"),
            "",
            &["ZtunnelAccepted=True/UnsupportedValue"],
            "methods: only a waypoint can judge this",
        ),
        (
            "a DENY of requests for node proxies",
            untargeted("AuthorizationPolicy", &format!(", action: DENY, {methods}")),
            ("authorizationpolicy", "elsewhere/p"),
            "",
            &["ZtunnelAccepted=True/UnsupportedValue"],
            "node proxies deny more than is written; to have it enforced as it is written, name a Service or Gateway",
        ),
        (
            "a question that node proxies do not ask",
            untargeted(
                "AuthorizationPolicy",
                ", action: CUSTOM, provider: {name: p}, rules: [{}]",
            ),
            ("authorizationpolicy", "elsewhere/p"),
            "",
            &["ZtunnelAccepted=False/UnsupportedValue"],
            "action CUSTOM has no effect on node proxies",
        ),
        (
            "a policy for node proxies that makes no sense",
            untargeted("AuthorizationPolicy", ", action: SHRUG, rules: [{}]"),
            ("authorizationpolicy", "elsewhere/p"),
            "",
            &["ZtunnelAccepted=False/Invalid"],
            "not ZtunnelAccepted (Invalid): spec.action: \"SHRUG\"",
        ),
        (
            "tokens that nobody is to look at",
            untargeted("RequestAuthentication", tokens),
            ("requestauthentication", "elsewhere/p"),
            "",
            &["WaypointAccepted=False/NoTarget"],
            "name a Service or Gateway in spec.targetRefs",
        ),
        (
            "tokens for nobody",
            policy("RequestAuthentication", "gone", tokens),
            ("requestauthentication", "mesh/p"),
            "",
            MISSING,
            "not WaypointAccepted (TargetNotFound)",
        ),
        (
            "a service without a waypoint",
            service(""),
            ("service", "elsewhere/s"),
            "",
            &[],
            "",
        ),
        (
            "a service whose waypoint is missing",
            service("istio.io/use-waypoint: nobody"),
            ("service", "elsewhere/s"),
            "",
            &["istio.io/WaypointBound=False/WaypointMissing"],
            "Gateway elsewhere/nobody does not exist",
        ),
        (
            "a service whose waypoint is for others",
            service("istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: mesh"),
            ("service", "elsewhere/s"),
            "",
            &["istio.io/WaypointBound=False/WaypointNotAllowed"],
            "does not let namespace elsewhere use it",
        ),
        (
            "roots of a ConfigMap",
            tls(&roots, "v1"),
            ("backendtlspolicy", "mesh/p"),
            "/ancestors/0",
            GOOD,
            "",
        ),
        (
            "roots that are none",
            tls("nothing", "v1"),
            ("backendtlspolicy", "mesh/p"),
            "/ancestors/0",
            &[
                "Accepted=False/NoValidCACertificate",
                "ResolvedRefs=False/InvalidCACertificateRef",
            ],
            "not ResolvedRefs (InvalidCACertificateRef)",
        ),
        (
            "TLS to nobody",
            tls(&roots, "gone"),
            ("backendtlspolicy", "mesh/p"),
            "/ancestors/0",
            &[
                "Accepted=False/TargetNotFound",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "not Accepted (TargetNotFound)",
        ),
        (
            "a retry budget",
            traffic("p", "v1", "10"),
            ("xbackendtrafficpolicy", "mesh/p"),
            "/ancestors/0",
            &["Accepted=True/Accepted"],
            "",
        ),
        (
            "one of two budgets",
            traffic("a", "v1", "20") + &traffic("p", "v1", "10"),
            ("xbackendtrafficpolicy", "mesh/p"),
            "/ancestors/0",
            &["Accepted=False/Conflicted"],
            "not Accepted (Conflicted)",
        ),
        (
            "an authorizer",
            grant.to_owned() + &authorizer("v3"),
            ("externalauthorizer", "istio-system/p"),
            "",
            GOOD,
            "",
        ),
        (
            "an authorizer that may not be referred to",
            authorizer("v3"),
            ("externalauthorizer", "istio-system/p"),
            "",
            &[
                "Accepted=True/Accepted",
                "ResolvedRefs=False/RefNotPermitted",
            ],
            "not ResolvedRefs (RefNotPermitted)",
        ),
    ] {
        let case = Case {
            name,
            manifest,
            object,
            part,
            wanted,
            said,
        };
        case.check(&lab);
    }
    let bound = lab.object("service", "mesh/v1")["status"].clone();
    let wanted = ["istio.io/WaypointBound=True/WaypointAccepted"];
    assert_eq!(conditions(&bound), wanted);
}
