//! What follows from objects, and that changes alone lead to the same as all at once.

use std::sync::Arc;

use ambit_core::model::service::Mode;
use ambit_core::model::{Destination, Health, NetworkMode, TunnelProtocol, WorkloadType};
use proptest::prelude::*;

use super::*;
use crate::source::parse::{documents, parse};

fn objects(text: &str) -> Vec<Object> {
    let mut found = Vec::new();
    for document in documents(text) {
        let parsed = parse(&document);
        assert_eq!(parsed.errors, [], "{text}");
        found.extend(parsed.objects);
    }
    found
}

fn events(text: &str) -> Vec<Event> {
    let found = objects(text).into_iter();
    found.map(|o| Event::Apply(o, Origin::default())).collect()
}

fn delete(kind: Kind, namespace: &str, name: &str) -> Vec<Event> {
    vec![Event::Delete(Key {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    })]
}

/// Changes as text.
fn names(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Workload(found) => format!("+{}", found.uid),
            Change::RemoveWorkload(uid) => format!("-{uid}"),
            Change::Service(found) => format!("+{}", found.key),
            Change::RemoveService(key) => format!("-{key}"),
            Change::Policy(found) => format!("+policy {}", found.key),
            Change::RemovePolicy(key) => format!("-policy {key}"),
            Change::Waypoint(found, _) => format!("+{}", found.key()),
            Change::RemoveWaypoint(key) => format!("-{key}"),
        })
        .collect()
}

const BASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIPs: [10.96.0.1, 'fd00::1']
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: web}]
---
apiVersion: v1
kind: Pod
metadata:
  name: web-abc-1
  namespace: shop
  labels: {app: web, pod-template-hash: abc}
  annotations: {ambient.istio.io/redirection: enabled}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-abc, uid: u, controller: true}]
spec:
  nodeName: node-1
  serviceAccountName: web
  containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]
status:
  phase: Running
  podIPs: [{ip: 10.244.0.1}, {ip: 'fd01::1'}]
  conditions: [{type: Ready, status: 'True'}]
";

fn base() -> Index {
    let mut index = Index::new(Mesh::default());
    index.apply(events(BASE));
    index
}

fn workload(index: &Index, name: &str) -> Arc<Workload> {
    let found = index.workloads().find(|w| &*w.name == name);
    found.expect("a workload").clone()
}

#[test]
fn a_pod_with_all_it_belongs_to() {
    let index = base();
    let found = workload(&index, "web-abc-1");
    assert_eq!(&*found.uid, "Kubernetes//Pod/shop/web-abc-1");
    assert_eq!(
        found.identity.to_string(),
        "spiffe://cluster.local/ns/shop/sa/web"
    );
    assert_eq!(found.addresses.len(), 2);
    assert_eq!(found.tunnel_protocol, TunnelProtocol::Hbone);
    assert_eq!(
        (found.workload_type, &*found.workload_name),
        (WorkloadType::Deployment, "web")
    );
    assert_eq!(
        (&*found.canonical_name, &*found.canonical_revision),
        ("web", "latest")
    );
    assert_eq!((&*found.locality.region, &*found.locality.zone), ("r", "z"));
    assert_eq!(found.health, Health::Healthy);
    let [(service, ports)] = &found.services[..] else {
        panic!("{:?}", found.services);
    };
    assert_eq!(service.to_string(), "shop/web.shop.svc.cluster.local");
    assert_eq!((ports[0].service_port, ports[0].target_port), (80, 8080));
    let service = index.services().next().expect("a service");
    assert_eq!(service.vips.len(), 2);
    assert_eq!(service.ports[0].target_port, 0, "the workload says");
}

/// The base with one text in place of another, and what the pod or service is then.
#[test]
fn variations_of_the_pod() {
    type Probe = fn(&Workload) -> String;
    let tunnel: Probe = |w| format!("{:?}", w.tunnel_protocol);
    let health: Probe = |w| format!("{:?}", w.health);
    let owner: Probe = |w| format!("{:?} {}", w.workload_type, w.workload_name);
    let canonical: Probe = |w| format!("{} {}", w.canonical_name, w.canonical_revision);
    let waypoint: Probe = |w| match &w.waypoint {
        Some(gateway) => format!("{:?} {}", gateway.destination, gateway.hbone_port),
        None => "none".to_owned(),
    };
    let app = "{app: web, pod-template-hash: abc}";
    let mark = "annotations: {ambient.istio.io/redirection: enabled}";
    let marked = &*format!("{app}\n  {mark}");
    let with = |label: &str| format!("{{app: web, pod-template-hash: abc, {label}}}");
    let controller =
        |kind: &str, name: &str| format!("kind: {kind}, name: {name}, uid: u, controller: true");
    let replica_set = "kind: ReplicaSet, name: web-abc, uid: u, controller: true";
    let waypoint_at =
        |ns: &str, name: &str| format!("Hostname({ns}/{name}.{ns}.svc.cluster.local) 15008");
    let cases: &[(&str, &str, String, Probe, &str)] = &[
        ("not captured", mark, String::new(), tunnel, "None"),
        (
            "captured no longer",
            mark,
            mark.replace("enabled", "pending"),
            tunnel,
            "None",
        ),
        (
            "captured, and labels say otherwise",
            "{istio.io/dataplane-mode: ambient}",
            "{}".into(),
            tunnel,
            "Hbone",
        ),
        (
            "host network",
            "nodeName: node-1",
            "nodeName: node-1\n  hostNetwork: true".into(),
            tunnel,
            "None",
        ),
        (
            "host network is a mode",
            "nodeName: node-1",
            "nodeName: node-1\n  hostNetwork: true".into(),
            |w| format!("{:?}", w.network_mode == NetworkMode::HostNetwork),
            "true",
        ),
        (
            "sidecar's own TLS",
            marked,
            with("security.istio.io/tlsMode: istio"),
            tunnel,
            "LegacyIstioMtls",
        ),
        (
            "speaks HBONE itself",
            marked,
            with("networking.istio.io/tunnel: http"),
            |w| format!("{:?} {}", w.tunnel_protocol, w.native_tunnel),
            "Hbone true",
        ),
        (
            "not ready",
            "status: 'True'",
            "status: 'False'".into(),
            health,
            "Unhealthy",
        ),
        (
            "no condition",
            "conditions: [{type: Ready, status: 'True'}]",
            String::new(),
            health,
            "Unhealthy",
        ),
        (
            "leaving",
            "name: web-abc-1\n",
            "name: web-abc-1\n  deletionTimestamp: '2026-01-01T00:00:00Z'\n".into(),
            health,
            "Unhealthy",
        ),
        (
            "replica set without hash",
            ", pod-template-hash: abc",
            String::new(),
            owner,
            "Pod web-abc",
        ),
        (
            "stateful set",
            replica_set,
            controller("StatefulSet", "db"),
            owner,
            "Pod db",
        ),
        (
            "job",
            replica_set,
            controller("Job", "once"),
            owner,
            "Job once",
        ),
        (
            "cron job",
            replica_set,
            controller("Job", "nightly-28391820"),
            owner,
            "CronJob nightly",
        ),
        (
            "job like a cron job",
            replica_set,
            controller("Job", "part-1"),
            owner,
            "Job part-1",
        ),
        (
            "canonical by app.kubernetes.io",
            app,
            with("app.kubernetes.io/name: n, app.kubernetes.io/version: v"),
            canonical,
            "n v",
        ),
        (
            "canonical by service.istio.io",
            app,
            with(
                "app.kubernetes.io/name: n, version: w, service.istio.io/canonical-name: c, service.istio.io/canonical-revision: r",
            ),
            canonical,
            "c r",
        ),
        (
            "default account",
            "serviceAccountName: web",
            "restartPolicy: Always".into(),
            |w| w.identity.service_account().to_string(),
            "default",
        ),
        (
            "unknown node",
            "name: node-1, labels",
            "name: node-9, labels".into(),
            |w| w.locality.zone.to_string(),
            "",
        ),
        (
            "named port of the pod is missing",
            "name: web, containerPort",
            "name: other, containerPort".into(),
            |w| w.services[0].1.len().to_string(),
            "0",
        ),
        (
            "other label, no service",
            "labels: {app: web",
            "labels: {app: other".into(),
            |w| w.services.len().to_string(),
            "0",
        ),
        (
            "no waypoint",
            "name: node-1",
            "name: node-1".into(),
            waypoint,
            "none",
        ),
        (
            "own waypoint, unknown yet",
            app,
            with("istio.io/use-waypoint: w"),
            waypoint,
            &waypoint_at("shop", "w"),
        ),
        (
            "own waypoint in another namespace",
            app,
            with("istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra"),
            waypoint,
            &waypoint_at("infra", "w"),
        ),
        (
            "own waypoint: none",
            app,
            with("istio.io/use-waypoint: none"),
            waypoint,
            "none",
        ),
        (
            "namespace's waypoint serves services",
            "{istio.io/dataplane-mode: ambient}",
            "{istio.io/use-waypoint: w}".into(),
            waypoint,
            "none",
        ),
        (
            "namespace's waypoint serves workloads",
            "{istio.io/dataplane-mode: ambient}}\n",
            format!(
                "{{istio.io/use-waypoint: w}}}}\n---\n{}",
                gateway("workload")
            ),
            waypoint,
            &waypoint_at("shop", "w"),
        ),
        (
            "network of the pod",
            app,
            with("topology.istio.io/network: east"),
            |w| w.network.to_string(),
            "east",
        ),
    ];
    for (name, from, to, probe, expected) in cases {
        assert!(BASE.contains(from), "{name}");
        let mut index = Index::new(Mesh::default());
        index.apply(events(&BASE.replacen(from, to, 1)));
        assert_eq!(probe(&workload(&index, "web-abc-1")), *expected, "{name}");
    }
}

fn gateway(serves: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: w, namespace: shop, labels: {{gateway.networking.k8s.io/gateway-name: w, istio.io/waypoint-for: {serves}}}}}\nspec: {{clusterIP: 10.96.0.9}}\n"
    )
}

#[test]
fn a_pods_own_waypoint_is_one_that_serves_pods() {
    let with =
        |label: &str| BASE.replacen("{app: web, pod", &format!("{{{label}, app: web, pod"), 1);
    let mut index = Index::new(Mesh::default());
    index.apply(events(&with("istio.io/use-waypoint: w")));
    assert!(workload(&index, "web-abc-1").waypoint.is_some());
    index.apply(events(&gateway("service")));
    let found = workload(&index, "web-abc-1");
    assert_eq!(found.waypoint, None, "that waypoint serves services only");
    index.apply(events(&gateway("all")));
    assert!(workload(&index, "web-abc-1").waypoint.is_some());
}

#[test]
fn pods_that_are_not_there() {
    for (from, to) in [
        ("phase: Running", "phase: Succeeded"),
        ("phase: Running", "phase: Failed"),
        ("podIPs: [{ip: 10.244.0.1}, {ip: 'fd01::1'}]", "podIPs: []"),
    ] {
        let mut index = Index::new(Mesh::default());
        index.apply(events(&BASE.replacen(from, to, 1)));
        assert_eq!(index.workloads().count(), 0, "{to}");
    }
    let mut index = Index::new(Mesh::default());
    index.apply(events(&BASE.replacen("10.244.0.1", "nonsense", 1)));
    assert_eq!(index.workloads().count(), 0);
    assert_eq!(index.problems().len(), 1);
}

#[test]
fn variations_of_the_service() {
    type Probe = fn(&Service) -> String;
    let balance: Probe = |s| {
        format!(
            "{:?} {:?}",
            s.load_balancing.mode,
            s.load_balancing.preference.len()
        )
    };
    let bound: Probe = |s| match s.waypoint.as_ref().map(|w| &w.destination) {
        Some(Destination::Hostname(name)) => name.to_string(),
        other => format!("{other:?}"),
    };
    let meta = "metadata: {name: web, namespace: shop}";
    let labelled =
        |label: &str| format!("metadata: {{name: web, namespace: shop, labels: {{{label}}}}}");
    let w = "shop/w.shop.svc.cluster.local";
    let cases: &[(&str, &str, String, Probe, &str)] = &[
        ("headless", "clusterIPs: [10.96.0.1, 'fd00::1']", "clusterIP: None".into(), |s| s.vips.len().to_string(), "0"),
        ("one address", "clusterIPs: [10.96.0.1, 'fd00::1']", "clusterIP: 10.96.0.1".into(), |s| s.vips[0].net.to_string(), "10.96.0.1/32"),
        ("no balancing", "selector: {app: web}", "selector: {app: web}".into(), balance, "Unspecified 0"),
        ("local", "selector: {app: web}", "internalTrafficPolicy: Local".into(), balance, "Strict 1"),
        ("close", "selector: {app: web}", "trafficDistribution: PreferClose".into(), balance, "Failover 4"),
        ("same node", "selector: {app: web}", "trafficDistribution: PreferSameNode".into(), balance, "Failover 5"),
        ("close by annotation", meta, "metadata: {name: web, namespace: shop, annotations: {networking.istio.io/traffic-distribution: PreferClose}}".into(), balance, "Failover 4"),
        ("not ready as well", "selector: {app: web}", "publishNotReadyAddresses: true".into(), |s| s.load_balancing.allow_unhealthy.to_string(), "true"),
        ("own waypoint", meta, labelled("istio.io/use-waypoint: w"), bound, w),
        ("namespace's waypoint", "{istio.io/dataplane-mode: ambient}", "{istio.io/use-waypoint: w}".into(), bound, w),
        ("the waypoint serves workloads", "{istio.io/dataplane-mode: ambient}}\n", format!("{{istio.io/use-waypoint: w}}}}\n---\n{}", gateway("workload")), bound, "None"),
        ("ingress", meta, labelled("istio.io/ingress-use-waypoint: 'true'"), |s| s.ingress_use_waypoint.to_string(), "true"),
    ];
    for (name, from, to, probe, expected) in cases {
        assert!(BASE.contains(from), "{name}");
        let mut index = Index::new(Mesh::default());
        index.apply(events(&BASE.replacen(from, to, 1)));
        let found = index
            .services()
            .find(|s| &*s.name == "web")
            .expect("the service");
        assert_eq!(probe(found), *expected, "{name}");
        assert!(
            found.load_balancing.mode == Mode::Unspecified
                || !found.load_balancing.preference.is_empty()
        );
    }
}

fn service_without() -> String {
    "apiVersion: v1\nkind: Service\nmetadata: {name: free, namespace: shop, labels: {istio.io/use-waypoint: none}}\nspec: {clusterIP: None}\n".to_owned()
}

#[test]
fn a_waypoint_is_not_behind_itself() {
    let mut index = Index::new(Mesh::default());
    let bound = BASE.replacen(
        "{istio.io/dataplane-mode: ambient}",
        "{istio.io/use-waypoint: w}",
        1,
    );
    index.apply(events(&format!(
        "{bound}---\n{}---\n{}",
        gateway("all"),
        service_without()
    )));
    for name in ["w", "free"] {
        let found = index
            .services()
            .find(|s| &*s.name == name)
            .expect("the service");
        assert_eq!(found.waypoint, None, "{name}");
    }
    let external = "apiVersion: v1\nkind: Service\nmetadata: {name: out}\nspec: {type: ExternalName, externalName: example.com}\n";
    assert_eq!(names(&index.apply(events(external))), [""; 0]);
}

const SLICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 15432}]
endpoints:
- {addresses: [192.0.2.1], nodeName: node-1}
- {addresses: [192.0.2.2], conditions: {ready: false}}
- {addresses: [10.244.0.1], targetRef: {kind: Pod, name: web-abc-1, namespace: shop}}
";

#[test]
fn slices_of_a_service_that_selects_nothing() {
    let mut index = base();
    let changes = index.apply(events(SLICE));
    assert_eq!(
        names(&changes),
        [
            "+shop/db.shop.svc.cluster.local",
            "+Kubernetes//Pod/shop/web-abc-1",
            "+Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-1/192.0.2.1",
            "+Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-1/192.0.2.2",
        ]
    );
    let at = |ip: &str| {
        let found = index.workloads().find(|w| w.uid.ends_with(ip));
        found.expect("an endpoint").clone()
    };
    assert_eq!(at("192.0.2.1").health, Health::Healthy);
    assert_eq!(at("192.0.2.2").health, Health::Unhealthy);
    assert_eq!(&*at("192.0.2.1").locality.zone, "z");
    let pod = workload(&index, "web-abc-1");
    let ports: Vec<_> = pod
        .services
        .iter()
        .map(|(s, p)| (s.to_string(), p[0].target_port))
        .collect();
    assert_eq!(
        ports,
        [
            ("shop/db.shop.svc.cluster.local".to_owned(), 15432),
            ("shop/web.shop.svc.cluster.local".to_owned(), 8080)
        ]
    );
    let without = SLICE.replace("- {addresses: [192.0.2.1], nodeName: node-1}\n", "");
    assert_eq!(
        names(&index.apply(events(&without))),
        ["-Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-1/192.0.2.1"]
    );
    assert_eq!(
        names(&index.apply(delete(Kind::EndpointSlice, "shop", "db-1"))),
        [
            "+Kubernetes//Pod/shop/web-abc-1",
            "-Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-1/192.0.2.2"
        ]
    );
}

#[test]
fn a_slice_tells_readiness_of_a_pod_that_does_not() {
    let bare = BASE.replacen("conditions: [{type: Ready, status: 'True'}]", "", 1);
    let mut index = Index::new(Mesh::default());
    index.apply(events(&bare));
    assert_eq!(workload(&index, "web-abc-1").health, Health::Unhealthy);
    index.apply(events(SLICE));
    assert_eq!(workload(&index, "web-abc-1").health, Health::Healthy);
}

#[test]
fn one_change_is_one_resource() {
    let mut index = base();
    let ready = BASE.replacen("status: 'True'", "status: 'False'", 1);
    assert_eq!(
        names(&index.apply(events(&ready))),
        ["+Kubernetes//Pod/shop/web-abc-1"]
    );
    assert_eq!(names(&index.apply(events(&ready))), [""; 0], "nothing new");
    let annotated = ready.replacen(
        "name: web, namespace: shop",
        "name: web, namespace: shop, annotations: {a: b}",
        1,
    );
    assert_eq!(
        names(&index.apply(events(&annotated))),
        [""; 0],
        "nothing the mesh reads"
    );
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n";
    assert_eq!(names(&index.apply(events(policy))), ["+policy shop/p"]);
    let selecting = policy.replace("{}", "{selector: {matchLabels: {app: web}}}");
    assert_eq!(
        names(&index.apply(events(&selecting))),
        ["+policy shop/p", "+Kubernetes//Pod/shop/web-abc-1"]
    );
    assert_eq!(
        names(&index.apply(delete(Kind::AuthorizationPolicy, "shop", "p"))),
        ["+Kubernetes//Pod/shop/web-abc-1", "-policy shop/p"]
    );
    assert_eq!(
        names(&index.apply(delete(Kind::Pod, "shop", "web-abc-1"))),
        ["-Kubernetes//Pod/shop/web-abc-1"]
    );
}

#[test]
fn selectors_reach_as_far_as_their_namespace() {
    let policy = |namespace: &str, labels: &str, more: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {labels}}}{more}}}\n"
        )
    };
    for (text, expected) in [
        (policy("shop", "{app: web}", ""), vec!["shop/p"]),
        (
            policy("istio-system", "{app: web}", ""),
            vec!["istio-system/p"],
        ),
        (policy("shop", "{app: other}", ""), vec![]),
        (policy("shop", "{app: web, missing: x}", ""), vec![]),
        (policy("other", "{app: web}", ""), vec![]),
        (policy("shop", "{app: web}", ", action: CUSTOM"), vec![]),
        (policy("shop", "{app: web}", ", action: AUDIT"), vec![]),
        (
            policy("shop", "{app: web}", ", action: BAD"),
            vec!["shop/p"],
        ),
        (policy("shop", "{}", ""), vec![]),
    ] {
        let mut index = base();
        index.apply(events(&text));
        let found = workload(&index, "web-abc-1");
        let names: Vec<_> = found
            .authorization_policies
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, expected, "{text}");
    }
}

/// A policy of the Service `web`.
fn targeted(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: targeted, namespace: shop}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: web}}], {spec}}}\n"
    )
}

/// What is attached to a Service that no waypoint serves is enforced by node proxies, never more widely.
#[test]
fn node_proxies_stand_in_for_a_waypoint_that_nobody_named() {
    let only_get = "rules: [{to: [{operation: {methods: [GET]}}]}]";
    let from = "rules: [{from: [{source: {namespaces: [far]}}]}]";
    for (case, spec, expected) in [
        (
            "what a connection tells",
            from.to_owned(),
            Some("Allow 1 far"),
        ),
        (
            "what it does not tell",
            only_get.to_owned(),
            Some("Allow 0 "),
        ),
        (
            "in a DENY",
            format!("action: DENY, {only_get}"),
            Some("Deny 1 "),
        ),
        (
            "nobody to ask",
            format!("action: CUSTOM, provider: {{name: opa}}, {from}"),
            Some("Deny 1 "),
        ),
        ("a report", format!("action: AUDIT, {from}"), None),
    ] {
        let mut index = base();
        index.apply(events(&targeted(&spec)));
        let enforced = |index: &Index| {
            let pod = workload(index, "web-abc-1");
            let key = pod.authorization_policies.first()?;
            let policy = index.policies().find(|it| it.key == *key);
            let policy = policy.expect("a policy that a workload names");
            let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
            let fields = clauses.flat_map(|clause| &clause.matches);
            let namespaces = fields.flat_map(|found| &found.namespaces);
            let namespaces: Vec<String> = namespaces
                .map(|it| match it {
                    ambit_core::model::StringMatch::Exact(it) => it.to_string(),
                    other => format!("{other:?}"),
                })
                .collect();
            let (action, rules) = (policy.action, policy.rules.len());
            Some(format!("{action:?} {rules} {}", namespaces.join(",")))
        };
        assert_eq!(enforced(&index).as_deref(), expected, "{case}");

        // Bound, it is the waypoint's; also while that is not there, as then nobody gets through.
        let bound = "name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}";
        index.apply(events(&BASE.replace("name: web, namespace: shop}", bound)));
        assert_eq!(enforced(&index), None, "{case}: bound to what is not there");
        index.apply(events(&gateway("service")));
        assert_eq!(enforced(&index), None, "{case}: bound");
        // A waypoint for pods does not serve what is sent to a service.
        index.apply(events(&gateway("workload")));
        assert_eq!(enforced(&index).as_deref(), expected, "{case}: not served");
        index.apply(events(&gateway("service")));
        index.apply(events(BASE));
        assert_eq!(
            enforced(&index).as_deref(),
            expected,
            "{case}: bound no more"
        );
        index.apply(delete(Kind::AuthorizationPolicy, "shop", "targeted"));
        assert_eq!(enforced(&index), None, "{case}: deleted");
    }
}

#[test]
fn problems_name_the_object_and_go_with_it() {
    let mut index = base();
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: [{to: [{operation: {ports: [x]}}]}]}\n";
    let origin = Origin {
        file: "p.yaml".into(),
        document: 2,
        line: 7,
    };
    let object = objects(text).remove(0);
    index.apply([Event::Apply(object, origin.clone())]);
    let problems = index.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].origin, origin);
    assert_eq!(problems[0].object, "AuthorizationPolicy shop/p");
    assert!(
        problems[0]
            .error
            .contains("spec.rules[0].to[0].operation ports"),
        "{}",
        problems[0].error
    );
    index.apply(delete(Kind::AuthorizationPolicy, "shop", "p"));
    assert_eq!(index.problems(), []);
}

const FOR_WAYPOINTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: shop}
spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: shop, labels: {istio.io/waypoint-for: none}}
spec: {gatewayClassName: nginx, listeners: []}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}, {name: w}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: l}}], backendRefs: [{name: web, port: 80}, {name: far, namespace: other, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web, port: 80}], rules: [{backendRefs: [{name: db, port: 5432}]}, {}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIPs: [10.96.7.7], ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service}]}
---
apiVersion: ambit.dev/v1alpha1
kind: RateLimit
metadata: {name: l, namespace: shop}
spec: {requests: 10}
---
apiVersion: ambit.dev/v1alpha1
kind: ExternalAuthorizer
metadata: {name: opa, namespace: istio-system}
spec: {protocol: GRPC, backendRef: {name: far, namespace: other, port: 80}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: w}], action: CUSTOM, provider: {name: opa}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: j, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], jwtRules: [{issuer: i, jwksUri: http://far.other/keys}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: shop}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: istio-system}
spec: {host: web.shop, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: x, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: t, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: shop}
data: {ca.crt: x}
---
";

/// Documents that get in each other's way; a step applies or deletes one of them.
fn pool() -> Vec<Object> {
    let mut text = format!("{BASE}---\n{SLICE}---\n{}---\n", gateway("all"));
    for variant in [
        BASE.replace("ambient", "none")
            .replace("zone: z", "zone: y")
            .replace("selector: {app: web}", "publishNotReadyAddresses: true")
            .replace("app: web, pod", "app: other, pod"),
        BASE.replace(
            "istio.io/dataplane-mode: ambient",
            "istio.io/use-waypoint: w",
        )
        .replace("nodeName: node-1", "nodeName: node-2")
        .replace("phase: Running", "phase: Failed"),
        SLICE
            .replace("192.0.2.1", "192.0.2.3")
            .replace("service-name: db", "service-name: web"),
        SLICE.replace("ports: [{name: sql, port: 5432}]", "selector: {app: other}"),
        gateway("workload"),
    ] {
        text.push_str(&variant);
        text.push_str("\n---\n");
    }
    text.push_str(FOR_WAYPOINTS);
    // Attached to a Service that waypoints come and go for.
    text.push_str(&format!("{}\n---\n", targeted("action: DENY, rules: [{}]")));
    let labelled = "name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}";
    let bound = BASE.replace("name: web, namespace: shop}", labelled);
    text.push_str(&format!("{bound}\n---\n"));
    for (namespace, selector) in [
        ("shop", "{app: web}"),
        ("shop", "{}"),
        ("istio-system", "{app: web}"),
        ("istio-system", "{}"),
    ] {
        for (kind, body) in [
            ("AuthorizationPolicy", ""),
            ("PeerAuthentication", ", mtls: {mode: STRICT}"),
            (
                "PeerAuthentication",
                ", portLevelMtls: {80: {mode: STRICT}}",
            ),
            ("PeerAuthentication", ", mtls: {mode: PERMISSIVE}"),
        ] {
            let name = if selector == "{}" { "wide" } else { "p" };
            text.push_str(&format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {selector}}}{body}}}\n---\n"));
        }
    }
    objects(&text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn step_by_step_leads_to_the_same_as_all_at_once(steps in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.7)), 1..60)) {
        let pool = pool();
        let mut stepwise = Index::new(Mesh::default());
        let mut present: BTreeMap<Key, Object> = BTreeMap::new();
        let mut mirror: BTreeMap<String, Change> = BTreeMap::new();
        for (which, apply) in steps {
            let object = which.get(&pool).clone();
            let key = object.key();
            let event = if apply {
                present.insert(key, object.clone());
                Event::Apply(object, Origin::default())
            } else {
                present.remove(&key);
                Event::Delete(key)
            };
            for change in stepwise.apply([event]) {
                let name = names(std::slice::from_ref(&change)).remove(0);
                let (sign, name) = name.split_at(1);
                if sign == "+" {
                    mirror.insert(name.to_owned(), change);
                } else {
                    prop_assert!(mirror.remove(name).is_some(), "{name} was not there");
                }
            }
        }
        let mut at_once = Index::new(Mesh::default());
        let all = at_once.apply(present.into_values().map(|o| Event::Apply(o, Origin::default())));
        prop_assert_eq!(&stepwise.workloads, &at_once.workloads);
        prop_assert_eq!(&stepwise.services, &at_once.services);
        prop_assert_eq!(&stepwise.policies, &at_once.policies);
        prop_assert_eq!(&stepwise.reports, &at_once.reports);
        let outcomes = |index: &Index| -> BTreeMap<Key, Outcome> {
            let all = index.attached.outcomes();
            let said = all.filter(|(_, outcome)| **outcome != Outcome::default());
            said.map(|(key, outcome)| (key.clone(), outcome.clone())).collect()
        };
        prop_assert_eq!(outcomes(&stepwise), outcomes(&at_once));
        let count = at_once.workloads.len()
            + at_once.services.len()
            + at_once.policies.len()
            + at_once.for_waypoints().count();
        prop_assert_eq!(mirror.len(), count, "changes tell the same story");
        let named = |it: Change| (names(std::slice::from_ref(&it)).remove(0).split_off(1), it);
        let all: BTreeMap<String, Change> = all.into_iter().map(named).collect();
        prop_assert_eq!(mirror, all, "and of whom it concerns");
    }
}

#[test]
fn policies_come_before_routes_and_go_after_them() {
    let mut index = Index::new(Mesh::default());
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}
spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: web}], rules: [{}]}
";
    let service = "+shop/web.shop.svc.cluster.local";
    assert_eq!(
        names(&index.apply(events(text))),
        ["+policy/shop/p", "+route/http/shop/r/0", service]
    );
    let gone = [
        delete(Kind::AuthorizationPolicy, "shop", "p"),
        delete(Kind::HTTPRoute, "shop", "r"),
    ];
    assert_eq!(
        names(&index.apply(gone.into_iter().flatten())),
        ["-route/http/shop/r/0", "-policy/shop/p"]
    );
}

#[test]
fn one_route_of_many_is_one_change() {
    let mut index = Index::new(Mesh::default());
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}\n";
    index.apply(events(service));
    let route = |number: usize, path: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: shop}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}\n"
        )
    };
    let all: String = (0..500).map(|number| route(number, "/a")).collect();
    assert_eq!(index.apply(events(&all)).len(), 500);
    assert_eq!(
        names(&index.apply(events(&route(7, "/b")))),
        ["+route/http/shop/r7/0"]
    );
    assert_eq!(names(&index.apply(events(&route(7, "/b")))), [""; 0]);
}
