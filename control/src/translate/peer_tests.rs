//! Precedence and ports.

use super::*;
use crate::index::Index;
use crate::source::{Event, Object, Origin};
use k8s_openapi::api::core::v1::Pod;

const MESH: (&str, &str) = ("istio-system", "mesh");
const NAMESPACE: (&str, &str) = ("shop", "all");
const WORKLOAD: (&str, &str) = ("shop", "web");
const SELECTOR: &str = "selector: {matchLabels: {app: web}}, ";

/// What holds for the pod `app: web` of `shop`, and the rule behind it.
fn effect(peers: &[((&str, &str), String)]) -> (Option<String>, Option<String>) {
    let mut index = Index::new(Mesh::default());
    let mut objects: Vec<Object> = peers
        .iter()
        .map(|((namespace, name), spec)| {
            let text =
                format!("metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n");
            Object::PeerAuthentication(std::sync::Arc::new(
                serde_saphyr::from_str(&text).expect("a PeerAuthentication"),
            ))
        })
        .collect();
    let pod: Pod = serde_saphyr::from_str(
        "metadata: {name: web-1, namespace: shop, labels: {app: web}}\nstatus: {podIP: 10.0.0.1}\n",
    )
    .expect("a pod");
    objects.push(Object::Pod(std::sync::Arc::new(pod)));
    index.apply(
        objects
            .into_iter()
            .map(|o| Event::Apply(o, Origin::default())),
    );
    let workload = index.workloads().next().expect("the pod's workload");
    let policies = &workload.authorization_policies;
    assert!(policies.len() <= 1, "{policies:?}");
    let Some(key) = policies.first() else {
        return (None, None);
    };
    let policy = index
        .policies()
        .find(|p| p.key == *key)
        .expect("a policy that is referred to");
    assert_eq!(policy.action, Action::Deny);
    assert_eq!(policy.scope, Scope::WorkloadSelector);
    let anonymous = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    assert_eq!(policy.rules.len(), 1);
    let clauses = &policy.rules[0].clauses;
    assert_eq!(clauses[0].matches, [anonymous]);
    let ports = clauses.get(1).map(|clause| {
        let found = &clause.matches[0];
        format!(
            "{:?} but {:?}",
            found.destination_ports, found.not_destination_ports
        )
    });
    (Some(key.to_string()), ports)
}

#[test]
fn the_most_specific_that_says_something_decides() {
    let strict = "istio-system/istio_converted_static_strict";
    type Case<'a> = (
        &'a str,
        &'a [((&'a str, &'a str), &'a str)],
        Option<&'a str>,
    );
    let cases: &[Case<'_>] = &[
        ("nothing", &[], None),
        (
            "mesh strict",
            &[(MESH, "mtls: {mode: STRICT}")],
            Some(strict),
        ),
        (
            "mesh permissive",
            &[(MESH, "mtls: {mode: PERMISSIVE}")],
            None,
        ),
        (
            "namespace strict",
            &[(NAMESPACE, "mtls: {mode: STRICT}")],
            Some(strict),
        ),
        (
            "namespace over mesh",
            &[
                (MESH, "mtls: {mode: STRICT}"),
                (NAMESPACE, "mtls: {mode: PERMISSIVE}"),
            ],
            None,
        ),
        (
            "unset inherits",
            &[
                (MESH, "mtls: {mode: STRICT}"),
                (NAMESPACE, "mtls: {mode: UNSET}"),
            ],
            Some(strict),
        ),
        (
            "no mode inherits",
            &[(MESH, "mtls: {mode: STRICT}"), (NAMESPACE, "")],
            Some(strict),
        ),
        (
            "disable is not strict",
            &[
                (MESH, "mtls: {mode: STRICT}"),
                (NAMESPACE, "mtls: {mode: DISABLE}"),
            ],
            None,
        ),
        (
            "workload over namespace",
            &[
                (NAMESPACE, "mtls: {mode: PERMISSIVE}"),
                (WORKLOAD, "W mtls: {mode: STRICT}"),
            ],
            Some(strict),
        ),
        (
            "workload permissive",
            &[
                (MESH, "mtls: {mode: STRICT}"),
                (WORKLOAD, "W mtls: {mode: PERMISSIVE}"),
            ],
            None,
        ),
        (
            "workload unset inherits",
            &[
                (MESH, "mtls: {mode: STRICT}"),
                (WORKLOAD, "W mtls: {mode: UNSET}"),
            ],
            Some(strict),
        ),
        (
            "another workload",
            &[(
                WORKLOAD,
                "selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}",
            )],
            None,
        ),
        (
            "an empty selector is the namespace",
            &[(WORKLOAD, "selector: {}, mtls: {mode: STRICT}")],
            Some(strict),
        ),
        (
            "a selector in the root namespace is for that namespace",
            &[(MESH, "W mtls: {mode: STRICT}")],
            None,
        ),
        (
            "of two the first by name",
            &[
                (("shop", "a"), "mtls: {mode: PERMISSIVE}"),
                (("shop", "b"), "mtls: {mode: STRICT}"),
            ],
            None,
        ),
        (
            "a bad mode is strict",
            &[(NAMESPACE, "mtls: {mode: STRCT}")],
            Some(strict),
        ),
    ];
    for (name, peers, expected) in cases {
        let peers: Vec<_> = peers
            .iter()
            .map(|(key, spec)| (*key, spec.replace("W ", SELECTOR)))
            .collect();
        let found = effect(&peers);
        assert_eq!(found, (expected.map(str::to_owned), None), "{name}");
    }
}

#[test]
fn ports_of_their_own() {
    let own = "shop/converted_peer_authentication_web";
    let strict = "istio-system/istio_converted_static_strict";
    let cases: &[(&str, &str, Option<&str>, Option<&str>)] = &[
        (
            "permissive but one",
            "W portLevelMtls: {8080: {mode: STRICT}}",
            Some(own),
            Some("[8080] but []"),
        ),
        (
            "strict but one",
            "W mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}, 8081: {mode: STRICT}}",
            Some(own),
            Some("[] but [8080]"),
        ),
        (
            "all the same",
            "W mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: STRICT}}",
            Some(strict),
            None,
        ),
        (
            "all permissive",
            "W mtls: {mode: PERMISSIVE}, portLevelMtls: {8080: {mode: DISABLE}}",
            None,
            None,
        ),
        (
            "unset is as the rest",
            "W mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: UNSET}}",
            Some(strict),
            None,
        ),
        (
            "a bad port makes the rest strict",
            "W portLevelMtls: {web: {mode: STRICT}, 80: {mode: PERMISSIVE}}",
            Some(own),
            Some("[] but [80]"),
        ),
        (
            "no selector, no ports",
            "portLevelMtls: {8080: {mode: STRICT}}",
            None,
            None,
        ),
    ];
    for (name, spec, key, ports) in cases {
        let peers = [(WORKLOAD, spec.replace("W ", SELECTOR))];
        let expected = (key.map(str::to_owned), ports.map(str::to_owned));
        assert_eq!(effect(&peers), expected, "{name}");
    }
    let mesh_strict = [
        (MESH, "mtls: {mode: STRICT}".to_owned()),
        (
            WORKLOAD,
            format!("{SELECTOR} portLevelMtls: {{8080: {{mode: DISABLE}}}}"),
        ),
    ];
    assert_eq!(
        effect(&mesh_strict),
        (Some(own.to_owned()), Some("[] but [8080]".to_owned())),
        "ports over the inherited mode"
    );
}

#[test]
fn the_older_of_two_wins() {
    let mut index = Index::new(Mesh::default());
    for (name, created, mode) in [
        ("a", "2026-01-02T00:00:00Z", "PERMISSIVE"),
        ("b", "2026-01-01T00:00:00Z", "STRICT"),
        ("0", "", "PERMISSIVE"),
    ] {
        let time = if created.is_empty() {
            String::new()
        } else {
            format!(", creationTimestamp: '{created}'")
        };
        let text = format!(
            "metadata: {{name: '{name}', namespace: shop{time}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        );
        let peer = serde_saphyr::from_str(&text).expect("a PeerAuthentication");
        let object = Object::PeerAuthentication(std::sync::Arc::new(peer));
        index.apply([Event::Apply(object, Origin::default())]);
    }
    assert!(inherited("shop", index.objects(), index.mesh()));
}
