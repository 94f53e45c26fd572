//! What follows from a Pod and what it belongs to.

use super::*;

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
    let udp: Probe = |w| w.takes_udp.to_string();
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
            "captured, without a word on UDP",
            mark,
            mark.to_owned(),
            udp,
            "false",
        ),
        (
            "captured, with UDP",
            mark,
            mark.replace("enabled", "enabled, ambit.dev/udp: enabled"),
            udp,
            "true",
        ),
        (
            "another word on UDP",
            mark,
            mark.replace("enabled", "enabled, ambit.dev/udp: 'yes'"),
            udp,
            "false",
        ),
        (
            "with UDP, and leaving",
            mark,
            mark.replace("enabled", "pending, ambit.dev/udp: enabled"),
            udp,
            "false",
        ),
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
    ];
    for (name, from, to, probe, expected) in cases {
        assert!(BASE.contains(from), "{name}");
        let mut index = Index::new(Mesh::default());
        index.apply(events(&BASE.replacen(from, to, 1)));
        assert_eq!(probe(&workload(&index, "web-abc-1")), *expected, "{name}");
    }
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
