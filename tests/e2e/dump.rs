//! `/config_dump` has the shape that `istioctl ztunnel-config` reads: its names, and its types.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixtures::{AMBIENT, addresses, client, echo, namespace, service};
use crate::flows::{identity, start};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Dump {
    workloads: Vec<Workload>,
    services: Vec<Service>,
    policies: Vec<Policy>,
    certificates: Vec<Certificate>,
    #[serde(rename = "workloadState")]
    workload_state: BTreeMap<String, State>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Workload {
    uid: String,
    name: String,
    namespace: String,
    trust_domain: String,
    service_account: String,
    workload_ips: Vec<IpAddr>,
    protocol: String,
    status: String,
    node: String,
    workload_type: String,
    capacity: u32,
    authorization_policies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    name: String,
    hostname: String,
    vips: Vec<String>,
    ports: BTreeMap<u16, u16>,
    endpoints: BTreeMap<String, Endpoint>,
    load_balancer: LoadBalancer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    workload_uid: String,
    port: BTreeMap<u16, u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancer {
    mode: String,
    routing_preferences: Vec<String>,
    health_policy: String,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    namespace: String,
    scope: String,
    action: String,
    /// Rules of clauses of matches.
    rules: Vec<Vec<Vec<Value>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    identity: String,
    state: String,
    cert_chain: Vec<Link>,
    root_certs: Vec<Link>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

#[derive(Deserialize)]
struct State {
    state: String,
    connections: Connections,
    info: Info,
}

#[derive(Deserialize)]
struct Connections {
    inbound: Vec<Inbound>,
    outbound: Vec<Outbound>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inbound {
    src: SocketAddr,
    original_dst: Option<String>,
    actual_dst: SocketAddr,
    protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outbound {
    src: SocketAddr,
    original_dst: SocketAddr,
    actual_dst: SocketAddr,
    protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    name: String,
    namespace: String,
    service_account: String,
}

const POLICY: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {name: echo-2}}
  rules:
  - from: [{source: {principals: ['cluster.local/ns/shop/sa/client-1']}}, {source: {principals: ['*']}}]
    to: [{operation: {ports: ['8080']}}]
";

/// What the node proxy of `node-2` knows while `client-1` of `node-1` holds a connection to `echo-2`.
fn dump(lab: &Lab) -> Option<Dump> {
    let url = "http://127.0.0.1:15000/config_dump";
    let dump = lab.load("node/node-2", &["get", "--fail", url]).json();
    let read = |dump: &Value| serde_json::from_value::<Dump>(dump.clone());
    let dump = read(&dump).unwrap_or_else(|error| panic!("{error} in {dump:#}"));
    let held = |state: &State| state.connections.inbound.len() == 3;
    dump.workload_state.values().any(held).then_some(dump)
}

#[test]
fn istioctl_can_read_what_a_proxy_knows() {
    let mut manifests = namespace("shop", AMBIENT) + POLICY;
    for number in [1, 2] {
        let node = format!("node-{number}");
        manifests += &echo("shop", &format!("echo-{number}"), &node);
        manifests += &client("shop", &format!("client-{number}"), &node);
    }
    manifests += &service("shop", "echo-2", "name: echo-2");
    let lab = start(manifests, &[]);
    let hold = ["hold", "echo-2:80", "-c", "3", "--for", "10s"];
    std::thread::scope(|scope| {
        let holding = scope.spawn(|| lab.load("shop/client-1", &hold));
        let dump = eventually("connections that are held", PATIENCE, || dump(&lab));
        let echo = addresses(&lab, "shop/echo-2");
        workload_and_service(&dump, &echo[0]);
        policy_and_certificate(&dump);
        connections(&dump, &lab, &echo);
        let _ = holding.join().expect("the client ends").success();
    });
}

fn workload_and_service(dump: &Dump, echo: &str) {
    let is = |it: &&Workload| it.name == "echo-2";
    let workload = dump.workloads.iter().find(is).expect("the server");
    assert_eq!(workload.uid, "Kubernetes//Pod/shop/echo-2");
    assert_eq!(workload.workload_ips[0].to_string(), echo);
    let words = [
        &*workload.namespace,
        &workload.trust_domain,
        &workload.service_account,
        &workload.protocol,
        &workload.status,
        &workload.node,
        &workload.workload_type,
    ];
    let expected = [
        "shop",
        "cluster.local",
        "echo-2",
        "HBONE",
        "Healthy",
        "node-2",
        "pod",
    ];
    assert_eq!(words, expected);
    assert_eq!(workload.capacity, 1);
    assert_eq!(workload.authorization_policies, ["shop/readers"]);

    let is = |it: &&Service| it.name == "echo-2";
    let service = dump.services.iter().find(is).expect("its service");
    assert_eq!(service.hostname, "echo-2.shop.svc.cluster.local");
    assert!(service.vips[0].starts_with("/10.96."), "{:?}", service.vips);
    assert_eq!(service.ports.keys().collect::<Vec<_>>(), [&80]);
    let endpoint = &service.endpoints[&workload.uid];
    assert_eq!(endpoint.workload_uid, workload.uid);
    assert_eq!(endpoint.port, BTreeMap::from([(80, 8080)]));
    let balancer = &service.load_balancer;
    assert_eq!(
        (&*balancer.mode, &*balancer.health_policy),
        ("Standard", "OnlyHealthy")
    );
    assert!(balancer.routing_preferences.is_empty());
}

fn policy_and_certificate(dump: &Dump) {
    let [policy] = &dump.policies[..] else {
        panic!("{} policies", dump.policies.len());
    };
    let words = [
        &policy.name,
        &policy.namespace,
        &policy.scope,
        &policy.action,
    ];
    assert_eq!(words, ["readers", "shop", "WorkloadSelector", "Allow"]);
    let matches: Vec<&Value> = policy.rules[0].iter().flatten().collect();
    let principal = json!([{"Exact": "cluster.local/ns/shop/sa/client-1"}]);
    assert!(
        matches.iter().any(|it| it["principals"] == principal),
        "{matches:?}"
    );
    let anybody = json!([{"Presence": []}]);
    assert!(
        matches.iter().any(|it| it["principals"] == anybody),
        "{matches:?}"
    );

    let own = identity("shop", "echo-2");
    let is = |it: &&Certificate| it.identity == own;
    let certificate = dump.certificates.iter().find(is).expect("its certificate");
    assert_eq!(certificate.state, "Available");
    for link in certificate.cert_chain.iter().chain(&certificate.root_certs) {
        assert!(
            link.pem.starts_with("-----BEGIN CERTIFICATE-----\n"),
            "{}",
            link.pem
        );
        assert!(!link.serial_number.is_empty());
        let mut serial = link.serial_number.chars();
        assert!(
            serial.all(|it| it.is_ascii_digit()),
            "{}",
            link.serial_number
        );
        assert!(link.valid_from < link.expiration_time);
    }
    assert_eq!(
        (certificate.cert_chain.len(), certificate.root_certs.len()),
        (1, 1)
    );
}

fn connections(dump: &Dump, lab: &Lab, echo: &[String; 2]) {
    let is_echo =
        |at: SocketAddr, port: u16| at.port() == port && echo.contains(&at.ip().to_string());
    let is = |it: &&State| it.info.name == "echo-2";
    let state = dump.workload_state.values().find(is).expect("the server");
    assert_eq!((&*state.state, &*state.info.namespace), ("Up", "shop"));
    assert_eq!(state.info.service_account, "echo-2");
    let client = addresses(lab, "shop/client-1");
    for inbound in &state.connections.inbound {
        assert!(
            client.contains(&inbound.src.ip().to_string()),
            "{}",
            inbound.src
        );
        assert!(is_echo(inbound.actual_dst, 8080), "{}", inbound.actual_dst);
        let service = Some("echo-2.shop.svc.cluster.local");
        assert_eq!(inbound.original_dst.as_deref(), service);
        assert_eq!(inbound.protocol, "HBONE");
    }
    assert!(state.connections.outbound.is_empty());

    let url = "http://127.0.0.1:15000/config_dump";
    let other = lab.load("node/node-1", &["get", "--fail", url]).json();
    let other: Dump = serde_json::from_value(other).expect("the same shape");
    let is = |it: &&State| it.info.name == "client-1";
    let state = other.workload_state.values().find(is).expect("the client");
    for outbound in &state.connections.outbound {
        assert!(
            client.contains(&outbound.src.ip().to_string()),
            "{}",
            outbound.src
        );
        assert_eq!(outbound.original_dst.port(), 80);
        let to = outbound.actual_dst;
        assert!(is_echo(to, 15008) || is_echo(to, 8080), "{to}");
        assert_eq!(outbound.protocol, "HBONE");
    }
    assert_eq!(state.connections.outbound.len(), 3);
}
