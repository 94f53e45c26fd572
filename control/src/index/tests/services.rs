//! What follows from a Service and from its EndpointSlices.

use super::*;

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
        ("clients stay", "selector: {app: web}", "sessionAffinity: ClientIP".into(), |s| s.load_balancing.client_affinity.to_string(), "true"),
        ("clients need not stay", "selector: {app: web}", "sessionAffinity: None".into(), |s| s.load_balancing.client_affinity.to_string(), "false"),
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
