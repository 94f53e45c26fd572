//! A cluster that is too large to be made: its objects, as a real API server shows such objects, told in front of what there is.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::interposer::Sent;

/// Events of the objects of a kind, in pieces of an answer.
#[derive(Clone)]
pub(crate) struct Replayed {
    pub(crate) plural: &'static str,
    pieces: Arc<[Bytes]>,
}

/// How large a cluster is: pod `n` is of Service `n % services`, which is of namespace `n % services % namespaces`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) pods: usize,
    pub(crate) services: usize,
    pub(crate) namespaces: usize,
}

/// Events in a piece of an answer.
const PIECE: usize = 64;
const TIME: &str = "2026-01-01T00:00:00Z";

impl Size {
    /// Its namespaces, Services, slices of endpoints and pods.
    pub(crate) fn objects(self) -> Vec<Replayed> {
        vec![
            Replayed::of("namespaces", self.namespaces, |it| self.namespace(it)),
            Replayed::of("services", self.services, |it| self.service(it)),
            Replayed::of("endpointslices", self.services, |it| self.slice(it)),
            Replayed::of("pods", self.pods, |it| self.pod(it)),
        ]
    }

    /// The namespace of a Service.
    pub(crate) fn namespace_of(self, service: usize) -> String {
        format!("ns-{}", service % self.namespaces)
    }

    fn namespace(self, number: usize) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": metadata("", &self.namespace_of(number), &json!({"istio.io/dataplane-mode": "ambient"})),
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        })
    }

    fn service(self, number: usize) -> Value {
        let (name, ip) = (
            format!("s-{number}"),
            format!(
                "10.{}.{}.{}",
                100 + number / 62_500,
                number / 250 % 250,
                1 + number % 250
            ),
        );
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": metadata(&self.namespace_of(number), &name, &json!({"app": name})),
            "spec": {
                "clusterIP": ip, "clusterIPs": [ip], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "selector": {"app": name}, "sessionAffinity": "None", "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        })
    }

    fn slice(self, number: usize) -> Value {
        let (name, namespace) = (format!("s-{number}"), self.namespace_of(number));
        let pods = (number..self.pods).step_by(self.services);
        let endpoints = pods.map(|pod| {
            json!({
                "addresses": [address(pod)], "nodeName": "node-1",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("p-{pod}"), "uid": uid(pod)},
            })
        });
        let labels = json!({
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": name,
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": metadata(&namespace, &format!("{name}-abcde"), &labels),
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        })
    }

    fn pod(self, number: usize) -> Value {
        let service = number % self.services;
        let (app, ip) = (format!("s-{service}"), address(number));
        let mut metadata = metadata(
            &self.namespace_of(service),
            &format!("p-{number}"),
            &json!({"app": app}),
        );
        metadata["uid"] = json!(uid(number));
        let condition = |of: &str| json!({"type": of, "status": "True", "lastProbeTime": null, "lastTransitionTime": TIME});
        let conditions = [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        .map(condition);
        let mount = json!({"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true});
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {
                "containers": [{
                    "name": "c", "image": "registry.example.com/team/app:1.2.3", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
                    "env": [{"name": "LOG", "value": "info"}, {"name": "NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                    "readinessProbe": {
                        "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1,
                        "httpGet": {"path": "/ready", "port": "http", "scheme": "HTTP"},
                    },
                    "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "volumeMounts": [mount],
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "nodeName": "node-1", "preemptionPolicy": "PreemptLowerPriority",
                "priority": 0, "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
                "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
                "tolerations": [{"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}],
                "volumes": [{"name": "token", "projected": {
                    "defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}],
                }}],
            },
            "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}],
                "qosClass": "Burstable", "startTime": TIME, "conditions": conditions,
                "containerStatuses": [{
                    "name": "c", "image": "registry.example.com/team/app:1.2.3", "imageID": "registry.example.com/team/app@sha256:0",
                    "containerID": "containerd://0", "lastState": {}, "ready": true, "restartCount": 0, "started": true,
                    "state": {"running": {"startedAt": TIME}},
                }],
            },
        })
    }
}

/// The address of a pod.
pub(crate) fn address(pod: usize) -> String {
    format!(
        "10.{}.{}.{}",
        128 + pod / 62_500,
        pod / 250 % 250,
        1 + pod % 250
    )
}

fn uid(pod: usize) -> String {
    format!("00000000-0000-4000-8000-{pod:012}")
}

fn metadata(namespace: &str, name: &str, labels: &Value) -> Value {
    // Who wrote which fields is a good part of what a server shows.
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
        "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:env": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:ports": {}, "f:resources": {}}},
        "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
    }});
    let mut metadata = json!({
        "name": name, "uid": format!("uid-of-{namespace}-{name}"), "resourceVersion": "1", "creationTimestamp": TIME, "labels": labels,
        "managedFields": [{
            "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields,
            "manager": "kube-controller-manager", "operation": "Update", "time": TIME,
        }],
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

impl Replayed {
    fn of(plural: &'static str, count: usize, make: impl Fn(usize) -> Value) -> Self {
        let pieces = (0..count).step_by(PIECE).map(|from| {
            let mut piece = String::new();
            for number in from..count.min(from + PIECE) {
                let event = json!({"type": "ADDED", "object": make(number)});
                piece.push_str(&event.to_string());
                piece.push('\n');
            }
            Bytes::from(piece)
        });
        let pieces = pieces.collect();
        Self { plural, pieces }
    }

    /// A streamed list that begins with these.
    pub(crate) fn before(&self, body: Sent) -> Sent {
        let pieces = Vec::from(&*self.pieces).into_iter();
        let frames = pieces.map(|piece| Ok::<_, io::Error>(Frame::data(piece)));
        let all = stream::iter(frames).chain(BodyStream::new(body));
        BodyExt::boxed_unsync(StreamBody::new(all))
    }
}
