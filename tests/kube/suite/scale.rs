//! A large cluster: what the control plane holds, and how soon proxies know.
//!
//! `AMBIT_TEST_PODS=100000` is the size that counts; ten pods are a Service, ten Services a namespace.

use std::time::{Duration, Instant};

use ambit_lab::harness::eventually;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::plane::{ControlPlane, PATIENCE};
use crate::replica::{Proxy, Replica};

/// Bytes that a control plane may hold for a pod and what belongs to it, and besides.
const A_POD: u64 = 12 << 10;
const BESIDES: u64 = 200 << 20;
/// Within this proxies know of a pod that is ready, on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(5);
/// Writes at the same time.
const TOGETHER: usize = 32;
const NODE: &str = "node-1";

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

    async fn pod(
        &self,
        namespace: String,
        name: String,
        service: String,
        number: usize,
    ) -> kube::Result<()> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace);
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
        let ip = format!(
            "10.{}.{}.{}",
            128 + number / 62_500,
            number / 250 % 250,
            1 + number % 250
        );
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let patch = Patch::Merge(status);
        pods.patch_status(&name, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of its kind")
}

#[test]
fn a_large_cluster_fits_and_is_told_soon() {
    let pods: usize =
        std::env::var("AMBIT_TEST_PODS").map_or(500, |it| it.parse().expect("a number"));
    let (services, namespaces) = (pods.div_ceil(10), pods.div_ceil(100));
    let plane = ControlPlane::start();
    let _ = plane.kubectl(&["create", "ns", "ambit-system"]).success();
    let writer = Writer::new(&plane);
    let name = |number: usize| format!("ns-{}", number % namespaces);
    let began = Instant::now();
    writer.make((0..namespaces).map(async |number| {
        let labels = json!({"istio.io/dataplane-mode": "ambient"});
        let namespace = object(json!({"metadata": {"name": name(number), "labels": labels}}));
        let all = Api::<Namespace>::all(writer.client.clone());
        all.create(&PostParams::default(), &namespace)
            .await
            .map(drop)
    }));
    writer.make(std::iter::once(async {
        let node = object(json!({"metadata": {"name": NODE}}));
        let all = Api::<Node>::all(writer.client.clone());
        all.create(&PostParams::default(), &node).await.map(drop)
    }));
    writer.make((0..services).map(async |number| {
        let service = object(json!({
            "metadata": {"name": format!("s-{number}")},
            "spec": {"selector": {"app": format!("s-{number}")}, "ports": [{"port": 80}]},
        }));
        let all = Api::<Service>::namespaced(writer.client.clone(), &name(number));
        all.create(&PostParams::default(), &service).await.map(drop)
    }));
    // A pod needs the account that its namespace is given.
    let last = name(namespaces - 1);
    eventually("accounts", PATIENCE, || {
        plane.object("serviceaccount", &last, "default")
    });
    writer.make((0..pods).map(|number| {
        let service = number % services;
        let place = (name(service), format!("p-{number}"), format!("s-{service}"));
        writer.pod(place.0, place.1, place.2, number)
    }));
    eprintln!(
        "{pods} pods, {services} services, {namespaces} namespaces made in {:.1?}",
        began.elapsed()
    );

    let began = Instant::now();
    let mut replica = Replica::start(&plane, "one");
    let ready = began.elapsed();
    let (token, roots) = proxy_of(&plane);
    let asked = Instant::now();
    let proxy = Proxy::subscribe(&replica, &roots, &token);
    let told = asked.elapsed();
    eprintln!(
        "serves after {ready:.1?}, a proxy has all {} after {told:.1?} more",
        proxy.count()
    );
    assert!(proxy.count() >= pods + services, "{}", proxy.count());

    let mut waits: Vec<Duration> = Vec::new();
    for number in pods..pods + 50 {
        let (service, pod) = (number % services, format!("p-{number}"));
        let namespace = name(service);
        let made = writer.pod(
            namespace.clone(),
            pod.clone(),
            format!("s-{service}"),
            number,
        );
        writer.make(std::iter::once(made));
        let written = Instant::now();
        let resource = format!("Kubernetes//Pod/{namespace}/{pod}");
        let heard = eventually(&resource, PATIENCE, || proxy.heard(&resource));
        waits.push(heard.saturating_duration_since(written));
    }
    waits.sort();
    let [holds, most] = replica.memory();
    eprintln!(
        "a ready pod is known after {:.1?} (median), {:.1?} (worst of 50); {} MiB, at most {} MiB",
        waits[25],
        waits[49],
        holds >> 20,
        most >> 20
    );
    replica.runs();
    assert!(waits[49] < SOON, "{waits:?}");
    assert!(most < BESIDES + A_POD * pods as u64, "{most} bytes");
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
