//! What a Gateway leads to, and that its pods are what the mesh takes a waypoint for.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::model::TunnelProtocol;
use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::index::Index;
use crate::source::{Event, Object, Origin};

fn gateway(class: &str) -> Gateway {
    let text = format!(
        "metadata: {{name: w, namespace: shop, uid: u-1, labels: {{istio.io/waypoint-for: all}}}}\nspec:\n  gatewayClassName: {class}\n  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]\n  infrastructure: {{labels: {{team: a, gateway.networking.k8s.io/gateway-name: x}}, annotations: {{note: b, prometheus.io/port: '1'}}}}\n"
    );
    serde_saphyr::from_str(&text).expect("a Gateway")
}

fn settings() -> Settings {
    Settings {
        image: "ambit-waypoint".to_owned(),
        control: "https://ambit-control.ambit-system.svc:15012".to_owned(),
        authority: None,
        roots: None,
        token: None,
        replicas: 2,
    }
}

fn made() -> Objects {
    objects(&gateway("ambit-waypoint"), &Mesh::default(), &settings()).expect("a waypoint")
}

#[test]
fn only_waypoints_are_run() {
    for (class, runs) in [
        ("ambit-waypoint", true),
        ("istio-waypoint", true),
        ("nginx", false),
    ] {
        let found = objects(&gateway(class), &Mesh::default(), &settings());
        assert_eq!(found.is_some(), runs, "{class}");
    }
}

#[test]
fn a_gateway_of_a_network_runs_there() {
    let class = "ambit-east-west";
    let unsaid = objects(&gateway(class), &Mesh::default(), &settings());
    assert_eq!(unsaid, None, "it does not say into which network it leads");
    let mut gateway = gateway(class);
    let labels = gateway.metadata.labels.get_or_insert_default();
    labels.insert(NETWORK.to_owned(), "west".to_owned());
    let made = objects(&gateway, &Mesh::default(), &settings()).expect("a gateway");
    let template = made.deployment.spec.expect("a spec").template;
    let of_pods = template.metadata.and_then(|it| it.labels);
    let network = of_pods.and_then(|labels| labels.get(NETWORK).cloned());
    assert_eq!(network.as_deref(), Some("west"));
    let pod = template.spec.expect("a spec");
    let nodes = pod.node_selector.expect("a selector");
    assert_eq!(nodes[NETWORK], "west");
    let told = pod.containers[0].env.clone().unwrap_or_default();
    for name in ["NETWORK", "AMBIT_GATEWAY_TO_NETWORK"] {
        let found = told.iter().find(|it| it.name == name);
        let value = found.and_then(|it| it.value.as_deref());
        assert_eq!(value, Some("west"), "{name}");
    }
}

#[test]
fn all_objects_are_the_gateways() {
    let made = made();
    for metadata in [
        &made.account.metadata,
        &made.service.metadata,
        &made.deployment.metadata,
        &made.disruption.metadata,
    ] {
        assert_eq!(metadata.name.as_deref(), Some("w"));
        assert_eq!(metadata.namespace.as_deref(), Some("shop"));
        let owner = &metadata.owner_references.as_ref().expect("an owner")[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str()),
            ("Gateway", "u-1")
        );
        assert_eq!(label(metadata, "team"), Some("a"));
        assert_eq!(
            label(metadata, GATEWAY_NAME),
            Some("w"),
            "never the infrastructure's"
        );
        assert_eq!(label(metadata, WAYPOINT_FOR), Some("all"));
        let annotations = metadata.annotations.as_ref().expect("annotations");
        assert_eq!(annotations.get("note").map(String::as_str), Some("b"));
    }
}

/// What a container is told: `NAME=VALUE`, or the path of a field.
fn told(pod: &PodSpec) -> Vec<String> {
    let environment = pod.containers[0].env.iter().flatten();
    let shown = environment.map(|variable| {
        let from = variable
            .value_from
            .as_ref()
            .and_then(|from| from.field_ref.as_ref());
        let value = from.map_or(variable.value.clone(), |f| Some(f.field_path.clone()));
        format!("{}={}", variable.name, value.unwrap_or_default())
    });
    shown.collect()
}

#[test]
fn the_names_of_the_trust_domain_are_told_and_no_others() {
    let mesh = Mesh::renamed("new.example", "new.example,old.example,cluster.local");
    let made = objects(&gateway("ambit-waypoint"), &mesh, &settings()).expect("a waypoint");
    let pod = made.deployment.spec.and_then(|it| it.template.spec);
    let told = told(&pod.expect("a pod"));
    let names = told.into_iter().filter(|it| it.contains("TRUST_DOMAIN"));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "TRUST_DOMAIN=new.example",
            "AMBIT_TRUST_DOMAIN_ALIASES=old.example,cluster.local"
        ]
    );
}

#[test]
fn the_container_is_told_who_it_is() {
    let deployment = made().deployment.spec.expect("a spec");
    let pod = deployment.template.spec.expect("a pod");
    assert_eq!(pod.service_account_name.as_deref(), Some("w"));
    assert_eq!(pod.termination_grace_period_seconds, Some(45));
    assert_eq!(
        told(&pod),
        [
            "XDS_ADDRESS=https://ambit-control.ambit-system.svc:15012",
            "CA_ADDRESS=https://ambit-control.ambit-system.svc:15012",
            "XDS_ROOT_CA=/var/run/secrets/istio/root-cert.pem",
            "CA_ROOT_CA=/var/run/secrets/istio/root-cert.pem",
            "AUTH_TOKEN=/var/run/secrets/tokens/istio-token",
            "POD_NAME=metadata.name",
            "POD_NAMESPACE=metadata.namespace",
            "INSTANCE_IP=status.podIP",
            "SERVICE_ACCOUNT=spec.serviceAccountName",
            "NODE_NAME=spec.nodeName",
            "CLUSTER_ID=Kubernetes",
            "CLUSTER_DOMAIN=cluster.local",
            "TRUST_DOMAIN=cluster.local",
            "NETWORK=",
            "GATEWAY_NAME=w",
            "TERMINATION_GRACE_PERIOD_SECONDS=45",
            "CRL_PATH=/var/run/secrets/istio/ca-crl.pem",
        ]
    );
}

#[test]
fn a_waypoint_ends_its_connections_before_its_pod_is_killed() {
    let pod = made().deployment.spec.and_then(|it| it.template.spec);
    let mut pod = pod.expect("a pod");
    let environment = pod.containers.remove(0).env.unwrap_or_default();
    let told = environment.into_iter();
    let told = told.filter_map(|it| Some((it.name, it.value?)));
    let who = ["POD_NAME", "POD_NAMESPACE", "SERVICE_ACCOUNT"];
    let who = who.map(|name| (name.to_owned(), "w".to_owned()));
    let config = ambit_waypoint::config::Config::from_env(told.chain(who).collect());
    let given = config.expect("it starts").drain.grace.as_secs();
    let seconds = pod.termination_grace_period_seconds.expect("a time");
    let kept_back = seconds.cast_unsigned() - given;
    assert!((1..=10).contains(&kept_back), "{given} of {seconds} s");
}

#[test]
fn the_config_map_of_the_gateway_is_more_environment() {
    for (parameters, wanted) in [
        (
            "{group: '', kind: ConfigMap, name: w-settings}",
            Some("w-settings"),
        ),
        ("{kind: ConfigMap, name: w-settings}", Some("w-settings")),
        ("{group: '', kind: Secret, name: w-settings}", None),
        (
            "{group: example.com, kind: ConfigMap, name: w-settings}",
            None,
        ),
    ] {
        let mut gateway = gateway("ambit-waypoint");
        let reference = serde_saphyr::from_str(parameters).expect("a reference");
        let infrastructure = gateway.spec.infrastructure.as_mut().expect("there is one");
        infrastructure.parameters_ref = Some(reference);
        let made = objects(&gateway, &Mesh::default(), &settings()).expect("a waypoint");
        let pod = made.deployment.spec.and_then(|spec| spec.template.spec);
        let container = pod.expect("a pod").containers.remove(0);
        let named = container.env_from.unwrap_or_default();
        let named = named.into_iter().filter_map(|it| it.config_map_ref);
        let named: Vec<_> = named.map(|it| it.name).collect();
        assert_eq!(named, Vec::from_iter(wanted), "{parameters}");
    }
}

#[test]
fn files_of_the_machine_need_no_volumes() {
    let files = Settings {
        roots: Some("/ca/root.pem".to_owned()),
        token: Some("/tokens/w".to_owned()),
        ..settings()
    };
    let made = objects(&gateway("ambit-waypoint"), &Mesh::default(), &files).expect("a waypoint");
    let pod = made
        .deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .expect("a pod");
    assert_eq!(pod.volumes, None);
    let environment = pod.containers[0].env.clone().unwrap_or_default();
    let token = environment
        .iter()
        .find(|variable| variable.name == "AUTH_TOKEN");
    assert_eq!(token.and_then(|t| t.value.as_deref()), Some("/tokens/w"));
    let mut names = environment.iter().map(|variable| &*variable.name);
    assert!(!names.any(|name| name == "CRL_PATH"), "nothing is mounted");
}

#[test]
fn another_authority_is_asked_where_there_is_one() {
    let elsewhere = "https://cert-manager-istio-csr.cert-manager.svc:443";
    let settings = Settings {
        authority: Some(elsewhere.to_owned()),
        ..settings()
    };
    let environment = environment("gate", None, &Mesh::default(), &settings);
    let of = |name: &str| {
        let found = environment.iter().find(|variable| variable.name == name);
        found.and_then(|variable| variable.value.clone())
    };
    assert_eq!(of("CA_ADDRESS").as_deref(), Some(elsewhere));
    assert_eq!(of("XDS_ADDRESS"), Some(settings.control));
}

/// In a captured namespace whose label binds everything to this very waypoint.
#[test]
fn its_pods_are_endpoints_that_terminate_hbone_and_are_behind_nothing() {
    let made = made();
    let template = made.deployment.spec.expect("a spec").template;
    let mut service = made.service;
    service.spec.as_mut().expect("a spec").cluster_ip = Some("10.96.0.9".to_owned());
    let mut pod = Pod {
        metadata: template.metadata.expect("metadata"),
        spec: template.spec,
        ..Pod::default()
    };
    pod.metadata.name = Some("w-1".to_owned());
    pod.metadata.namespace = Some("shop".to_owned());
    let status = serde_json::json!({"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]});
    pod.status = serde_json::from_value(status).ok();
    let namespace = serde_saphyr::from_str("metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: w}}").expect("a namespace");
    let mut index = Index::new(Mesh::default());
    let objects = [
        Object::Namespace(Arc::new(namespace)),
        Object::Gateway(Arc::new(gateway("ambit-waypoint"))),
        Object::Service(Arc::new(service)),
        Object::Pod(Arc::new(pod)),
    ];
    index.apply(objects.map(|object| Event::Apply(object, Origin::default())));
    let workload = index.workloads().next().expect("the pod");
    assert_eq!(workload.tunnel_protocol, TunnelProtocol::Hbone);
    assert!(workload.native_tunnel);
    assert_eq!(workload.waypoint, None);
    assert_eq!(&**workload.identity.service_account(), "w");
    let key = NamespacedName::new("shop", "w.shop.svc.cluster.local");
    assert_eq!(
        workload
            .services
            .iter()
            .map(|(key, _)| key)
            .collect::<Vec<_>>(),
        [&key]
    );
    assert_eq!(
        index.services().next().and_then(|s| s.waypoint.clone()),
        None
    );
}
