//! What control says of objects, as `lab get` shows it: every condition with an object that has it and one
//! that has not, and what the author of a bad one is told.

use ambit_lab::harness::Lab;
use serde_json::Value;

use super::scene::{gateway, http_route, lab, route};
use crate::fixtures::{namespace, text};

/// A condition as `Type=Status/Reason`.
fn conditions(part: &Value) -> Vec<String> {
    let all = part["conditions"].as_array().into_iter().flatten();
    all.map(|it| {
        let text = |field: &str| it[field].as_str().unwrap_or_default();
        assert!(!text("lastTransitionTime").is_empty(), "{it}");
        format!("{}={}/{}", text("type"), text("status"), text("reason"))
    })
    .collect()
}

const GOOD: &[&str] = &["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];

/// An object, the part of its status that is looked at, its conditions, and what its author is told.
struct Case {
    name: &'static str,
    manifest: String,
    object: (&'static str, &'static str),
    part: &'static str,
    wanted: &'static [&'static str],
    said: &'static str,
}

impl Case {
    /// Applies the object alone, looks, and takes it away.
    fn check(&self, lab: &Lab) {
        let Self { name, wanted, .. } = self;
        let output = lab.try_apply(&self.manifest).success();
        let (kind, object) = self.object;
        let status = lab.object(kind, object)["status"].clone();
        let found = conditions(status.pointer(self.part).unwrap_or(&Value::Null));
        assert_eq!(found, *wanted, "{name}: {status:#}");
        let warned: Vec<&str> = output
            .lines()
            .filter(|line| line.starts_with("warning: ") && line.contains(object))
            .collect();
        if self.said.is_empty() {
            assert_eq!(warned, [""; 0], "{name}");
        } else {
            let told = warned.iter().any(|line| line.contains(self.said));
            assert!(told, "{name}: {output}");
        }
        lab.delete(&self.manifest);
    }
}

const MISSING: &[&str] = &["WaypointAccepted=False/TargetNotFound"];
const ONE: &str = "- backendRefs: [{name: v1, port: 8080}]";

#[test]
fn routes_are_told_whether_they_are_in_force() {
    let lab = lab();
    let to = |backend: &str| {
        let rules = format!("- backendRefs: [{{{backend}}}]");
        http_route("r", "echo", &rules)
    };
    let at = |parent: &str| route("HTTPRoute", "mesh", "r", parent, ONE);
    let grpc = route("GRPCRoute", "mesh", "first", "name: echo", ONE);
    for (name, manifest, wanted, said) in [
        ("good", http_route("r", "echo", ONE), GOOD, ""),
        (
            "a backend that is missing",
            to("name: gone, port: 80"),
            &[
                "Accepted=True/Accepted",
                "ResolvedRefs=False/BackendNotFound",
            ],
            "not ResolvedRefs (BackendNotFound): Service mesh/gone",
        ),
        (
            "a kind that is no backend",
            to("name: v1, kind: Widget, group: example.com, port: 80"),
            &["Accepted=True/Accepted", "ResolvedRefs=False/InvalidKind"],
            "not ResolvedRefs (InvalidKind)",
        ),
        (
            "another namespace, without a grant",
            to("name: other, namespace: elsewhere, port: 80"),
            &[
                "Accepted=True/Accepted",
                "ResolvedRefs=False/RefNotPermitted",
            ],
            "not ResolvedRefs (RefNotPermitted)",
        ),
        (
            "a parent that is missing",
            at("name: nobody"),
            &[
                "Accepted=False/NoMatchingParent",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "not Accepted (NoMatchingParent): Service mesh/nobody does not exist",
        ),
        (
            "a port that the parent has not",
            at("name: echo, port: 81"),
            &[
                "Accepted=False/NoMatchingParent",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "has no TCP port 81",
        ),
        (
            "a section that the parent has not",
            at("name: echo, sectionName: web"),
            &[
                "Accepted=False/NoMatchingParent",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "has no TCP port named \"web\"",
        ),
        (
            "a section and a port that differ",
            at("name: echo, sectionName: grpc, port: 80"),
            &[
                "Accepted=False/NoMatchingParent",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "port and sectionName are different ports",
        ),
        (
            "a rule that cannot be honoured",
            http_route(
                "r",
                "echo",
                &format!("- timeouts: {{request: soon}}\n  {}", &ONE[2..]),
            ),
            &[
                "Accepted=False/UnsupportedValue",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "timeouts.request",
        ),
        (
            "a filter that a backend cannot have",
            http_route(
                "r",
                "echo",
                "- backendRefs:\n  - name: v1\n    port: 8080\n    \
                 filters: [{type: RequestRedirect, requestRedirect: {hostname: a.example}}]",
            ),
            &[
                "Accepted=False/UnsupportedValue",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "RequestRedirect is not supported at a backend",
        ),
        (
            "one rule of two",
            http_route(
                "r",
                "echo",
                &format!("{ONE}\n- timeouts: {{request: soon}}\n  {}", &ONE[2..]),
            ),
            &[
                "Accepted=True/Accepted",
                "PartiallyInvalid=True/UnsupportedValue",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "spec.rules[1]",
        ),
        (
            "another kind of route at the same port",
            grpc + &http_route("r", "echo", ONE),
            &[
                "Accepted=False/Conflicted",
                "ResolvedRefs=True/ResolvedRefs",
            ],
            "not Accepted (Conflicted): GRPCRoute mesh/first",
        ),
    ] {
        let case = Case {
            name,
            manifest,
            object: ("httproute", "mesh/r"),
            part: "/parents/0",
            wanted,
            said,
        };
        case.check(&lab);
    }
    for (kind, parent, port) in [
        ("GRPCRoute", "name: echo, port: 7070", 7070),
        ("TCPRoute", "name: echo, port: 9090", 9090),
        ("TLSRoute", "name: echo, port: 9090", 9090),
    ] {
        for (backend, wanted, said) in [
            ("v1", GOOD, ""),
            (
                "gone",
                &[
                    "Accepted=True/Accepted",
                    "ResolvedRefs=False/BackendNotFound",
                ],
                "not ResolvedRefs (BackendNotFound)",
            ),
        ] {
            let rules = format!("- backendRefs: [{{name: {backend}, port: {port}}}]");
            let case = Case {
                name: kind,
                manifest: route(kind, "mesh", "r", parent, &rules),
                object: (kind, "mesh/r"),
                part: "/parents/0",
                wanted,
                said,
            };
            case.check(&lab);
        }
    }
}

#[test]
fn policies_and_services_are_told_whether_a_waypoint_has_them() {
    let lab = lab();
    let policy = |kind: &str, service: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: mesh}}\n\
             spec: {{targetRefs: [{{kind: Service, group: \"\", name: {service}}}]{spec}}}\n"
        )
    };
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

#[test]
fn a_gateway_is_programmed_while_an_instance_is_ready() {
    let lab = lab();
    let status = || lab.object("gateway", "mesh/waypoint")["status"].clone();
    let good = ["Accepted=True/Accepted", "Programmed=True/Programmed"];
    let before = status();
    assert_eq!(conditions(&before), good);
    assert_eq!(
        conditions(&before["listeners"][0]),
        [good[0], good[1], GOOD[1]]
    );
    let address = text(&lab.object("service", "mesh/waypoint")["spec"]["clusterIP"]);
    assert_eq!(before["addresses"][0]["value"], address);
    let table = lab.run(["get", "gateway", "-n", "mesh"]).success();
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(
        row.starts_with("waypoint   ambit-waypoint")
            && row.contains(&address)
            && row.ends_with("True"),
        "{table}"
    );

    let mut deployment = lab.object("deployment", "mesh/waypoint");
    let mut scale = |replicas: i32| {
        deployment["spec"]["replicas"] = replicas.into();
        lab.apply(&deployment.to_string());
        status()
    };
    let without = scale(0);
    let wanted = ["Accepted=True/Accepted", "Programmed=False/Pending"];
    assert_eq!(conditions(&without), wanted);
    let again = scale(1);
    assert_eq!(conditions(&again), good);
    let since = |status: &Value, at: usize| text(&status["conditions"][at]["lastTransitionTime"]);
    assert_eq!(
        since(&again, 0),
        since(&before, 0),
        "it was accepted all the time"
    );
    assert!(since(&again, 1) > since(&before, 1), "{again:#}");

    // GatewayListenerUnsupportedProtocol.
    let odd = gateway("mesh", "odd", "")
        .replace("port: 15008, protocol: HBONE", "port: 80, protocol: HTTP");
    let said = lab.try_apply(&odd).success();
    assert!(said.contains("warning: Gateway mesh/odd"), "{said}");
    let listener = lab.object("gateway", "mesh/odd")["status"]["listeners"][0].clone();
    assert_eq!(
        conditions(&listener)[0],
        "Accepted=False/UnsupportedProtocol"
    );
}

/// GatewayObservedGenerationBump, HTTPRouteObservedGenerationBump: and what control says does not come
/// back to it as a change.
#[test]
fn a_status_follows_its_object_and_nothing_else_moves() {
    let lab = lab();
    lab.apply(&http_route("r", "echo", ONE));
    let parent = || lab.object("httproute", "mesh/r")["status"]["parents"][0].clone();
    let observed = |parent: &Value| parent["conditions"][0]["observedGeneration"].as_i64();
    let first = parent();
    assert_eq!(observed(&first), Some(1));
    let changed = http_route("r", "echo", &ONE.replace("v1", "v2"));
    lab.apply(&changed);
    let second = parent();
    assert_eq!(observed(&second), Some(2));
    assert_eq!(
        first["conditions"][0]["lastTransitionTime"],
        second["conditions"][0]["lastTransitionTime"]
    );
    assert_eq!(second["parentRef"]["name"], "echo");
    assert_eq!(second["controllerName"], "ambit.dev/waypoint-controller");
    // What is applied again changes nothing, and with it nothing changes in control.
    let changes = || lab.logs("control").matches("configuration changed").count();
    let before = changes();
    let said = lab.try_apply(&changed).success();
    assert!(said.contains("HTTPRoute mesh/r unchanged"), "{said}");
    let quiet = namespace("quiet", "");
    lab.apply(&quiet);
    assert_eq!(changes(), before);
    // A status goes with its object.
    lab.delete(&changed);
    let bad = route("HTTPRoute", "mesh", "r", "name: nobody", ONE);
    let _ = lab.try_apply(&bad).success();
    assert_eq!(conditions(&parent())[0], "Accepted=False/NoMatchingParent");
    assert_eq!(observed(&parent()), Some(1));
}
