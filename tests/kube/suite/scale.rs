//! A large cluster: what the control plane holds, and how soon proxies know.
//!
//! Ten pods are a Service, ten Services a namespace. `AMBIT_TEST_PODS` are made; where that takes hours, `AMBIT_TEST_REPLAYED_PODS` are
//! told to the control plane in front of what the API server has, and 100000 is the size that counts. What changes is the API
//! server's in both. `AMBIT_TEST_PROXIES` is how many node proxies are told.

use std::time::{Duration, Instant};

use ambit_lab::harness::eventually;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::plane::{ControlPlane, PATIENCE};
use crate::replayed::{Replayed, Size, address};
use crate::replica::{Proxy, Replica};

/// Bytes that a control plane may hold for a pod and what belongs to it, and besides.
const A_POD: u64 = 12 << 10;
const BESIDES: u64 = 200 << 20;
/// Within this proxies know of a pod that is ready, in 95 of 100 cases, as other tests take their time; and of the rest.
const SOON: Duration = Duration::from_secs(5);
const LATEST: Duration = Duration::from_secs(15);
/// How many pods get ready one after the other, and which of these waits, in order, are percentiles.
const LATER: usize = 100;
const P95: usize = LATER * 95 / 100 - 1;
const P99: usize = LATER * 99 / 100 - 1;
/// Writes at the same time.
const TOGETHER: usize = 32;
const NODE: &str = "node-1";
/// The namespace of the pods that come later, and their Service.
const NEW: &str = "new";

struct Writer {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Writer {
    fn new(plane: &ControlPlane) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let read = Kubeconfig::read_from(plane.kubeconfig()).expect("a kubeconfig");
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await;
            Client::try_from(config.expect("a configuration")).expect("a client")
        });
        Self { client, runtime }
    }

    /// Makes all of these, many at a time.
    fn make<F: Future<Output = kube::Result<()>>>(&self, all: impl Iterator<Item = F>) {
        self.runtime.block_on(async {
            let mut done = stream::iter(all).buffer_unordered(TOGETHER);
            while let Some(done) = done.next().await {
                done.expect("written");
            }
        });
    }

    async fn namespace(&self, name: &str) -> kube::Result<()> {
        let labels = json!({"istio.io/dataplane-mode": "ambient"});
        let namespace = object(json!({"metadata": {"name": name, "labels": labels}}));
        let all = Api::<Namespace>::all(self.client.clone());
        all.create(&PostParams::default(), &namespace)
            .await
            .map(drop)
    }

    async fn service(&self, namespace: &str, name: &str) -> kube::Result<()> {
        let service = object(json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
        }));
        let all = Api::<Service>::namespaced(self.client.clone(), namespace);
        all.create(&PostParams::default(), &service).await.map(drop)
    }

    async fn pod(
        &self,
        namespace: &str,
        name: &str,
        service: &str,
        number: usize,
    ) -> kube::Result<()> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let pod = object(json!({
            "metadata": {"name": name, "labels": {"app": service}},
            "spec": {
                "nodeName": NODE, "automountServiceAccountToken": false,
                // Nobody renews the node's lease; its pods are to stay.
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": "none"}],
            },
        }));
        pods.create(&PostParams::default(), &pod).await?;
        let ip = address(number);
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let patch = Patch::Merge(status);
        pods.patch_status(name, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of its kind")
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |it| it.parse().expect("a number"))
}

#[test]
fn a_large_cluster_fits_and_is_told_soon() {
    fits(number("AMBIT_TEST_PODS", 500), |writer, plane, size| {
        populate(writer, plane, size);
        Vec::new()
    });
}

#[test]
fn one_that_is_too_large_to_be_made_does_too() {
    let pods = number("AMBIT_TEST_REPLAYED_PODS", 5000);
    fits(pods, |_, _, size| size.objects());
}

/// `make` makes a cluster, or says what of it is replayed.
fn fits(pods: usize, make: impl FnOnce(&Writer, &ControlPlane, Size) -> Vec<Replayed>) {
    let count = number("AMBIT_TEST_PROXIES", 3);
    let size = Size {
        pods,
        services: pods.div_ceil(10),
        namespaces: pods.div_ceil(100),
    };
    let plane = ControlPlane::start();
    let _ = plane.kubectl(&["create", "ns", "ambit-system"]).success();
    let writer = Writer::new(&plane);
    writer.make(std::iter::once(async {
        let node = object(json!({"metadata": {"name": NODE}}));
        let all = Api::<Node>::all(writer.client.clone());
        all.create(&PostParams::default(), &node).await.map(drop)
    }));
    writer.make(std::iter::once(writer.namespace(NEW)));
    writer.make(std::iter::once(writer.service(NEW, NEW)));
    plane.account(NEW);
    let replayed = make(&writer, &plane, size);

    let began = Instant::now();
    let mut replica = Replica::start_with(&plane, "one", replayed);
    let ready = began.elapsed();
    let (token, roots) = proxy_of(&plane);
    let asked = Instant::now();
    let mut proxies = vec![Proxy::subscribe(&replica, &roots, &token)];
    // A first push of this size comes in several messages.
    let known = eventually("a proxy has all", PATIENCE, || {
        let known = proxies[0].count();
        (known >= pods + size.services).then_some(known)
    });
    let told = asked.elapsed();
    eprintln!("serves after {ready:.1?}, a proxy has all {known} after {told:.1?} more");
    proxies.resize_with(count, || Proxy::subscribe(&replica, &roots, &token));

    let mut waits: Vec<Duration> = Vec::new();
    for number in pods..pods + LATER {
        let pod = format!("p-{number}");
        writer.make(std::iter::once(writer.pod(NEW, &pod, NEW, number)));
        let written = Instant::now();
        let resource = format!("Kubernetes//Pod/{NEW}/{pod}");
        let heard = eventually(&resource, PATIENCE, || {
            let heard: Option<Vec<Instant>> =
                proxies.iter().map(|it| it.heard(&resource)).collect();
            heard?.into_iter().max()
        });
        waits.push(heard.saturating_duration_since(written));
    }
    waits.sort();
    let [holds, most] = replica.memory();
    eprintln!(
        "{count} proxies know a ready pod after {:.1?} (median), {:.1?} (p99), {:.1?} (worst of {LATER}); \
         {} MiB, at most {} MiB",
        waits[LATER / 2],
        waits[P99],
        waits[LATER - 1],
        holds >> 20,
        most >> 20
    );
    replica.runs();
    assert!(waits[P95] < SOON, "{waits:?}");
    assert!(waits[LATER - 1] < LATEST, "{waits:?}");
    assert!(most < BESIDES + A_POD * pods as u64, "{most} bytes");
}

/// Makes a cluster of a size.
fn populate(writer: &Writer, plane: &ControlPlane, size: Size) {
    let began = Instant::now();
    let names: Vec<String> = (0..size.namespaces)
        .map(|it| size.namespace_of(it))
        .collect();
    writer.make(names.iter().map(|name| writer.namespace(name)));
    let services: Vec<[String; 2]> = (0..size.services)
        .map(|it| [size.namespace_of(it), format!("s-{it}")])
        .collect();
    writer.make(services.iter().map(|[of, name]| writer.service(of, name)));
    // A pod needs the account that its namespace is given.
    plane.account(names.last().expect("a namespace"));
    let pods: Vec<String> = (0..size.pods).map(|it| format!("p-{it}")).collect();
    writer.make(pods.iter().enumerate().map(|(number, pod)| {
        let [namespace, service] = &services[number % services.len()];
        writer.pod(namespace, pod, service, number)
    }));
    eprintln!("{size:?} made in {:.1?}", began.elapsed());
}

/// The token of a node proxy, and the roots of the control plane.
fn proxy_of(plane: &ControlPlane) -> (String, String) {
    plane.apply(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: ztunnel, namespace: ambit-system}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: ztunnel-1, namespace: ambit-system}}\n\
         spec: {{serviceAccountName: ztunnel, nodeName: {NODE}, containers: [{{name: c, image: none}}]}}\n"
    ));
    plane.proxy_credentials("ztunnel-1")
}
