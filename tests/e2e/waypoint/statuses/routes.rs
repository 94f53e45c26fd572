//! Conditions of routes, for each parent.

use super::super::scene::{http_route, lab, route};
use super::{Case, GOOD, ONE};

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
