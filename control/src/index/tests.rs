//! What follows from objects, and that changes alone lead to the same as all at once.

use std::sync::Arc;

use ambit_core::model::service::Mode;
use ambit_core::model::{Destination, Health, NetworkMode, TunnelProtocol, WorkloadType};
use proptest::prelude::*;

use super::*;

mod pods;
mod policies;
mod services;
mod steps;
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

fn gateway(serves: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: w, namespace: shop, labels: {{gateway.networking.k8s.io/gateway-name: w, istio.io/waypoint-for: {serves}}}}}\nspec: {{clusterIP: 10.96.0.9}}\n"
    )
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

/// A policy of the Service `web`.
fn targeted(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: targeted, namespace: shop}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: web}}], {spec}}}\n"
    )
}
