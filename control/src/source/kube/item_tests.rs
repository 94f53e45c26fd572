//! What is kept of an object, and what is said of one that cannot be read.

use super::*;
use serde_json::json;

#[test]
fn pods_and_nodes_keep_what_is_read() {
    let pod = json!({
        "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "labels": {"app": "a"},
            "annotations": {"sidecar.istio.io/status": "{}", "other": "x"},
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {
            "nodeName": "n", "serviceAccountName": "s", "hostNetwork": true, "volumes": [{"name": "v"}],
            "containers": [{
                "name": "c", "image": "i", "env": [{"name": "A", "value": "1"}],
                "ports": [{"name": "http", "containerPort": 80}],
            }],
            "initContainers": [{"name": "i", "restartPolicy": "Always", "image": "i"}],
        },
        "status": {
            "phase": "Running", "podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}],
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Initialized", "status": "True"},
            ],
            "containerStatuses": [],
        },
    });
    let kept = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "labels": {"app": "a"},
            "annotations": {"sidecar.istio.io/status": "{}"},
        },
        "spec": {
            "nodeName": "n", "serviceAccountName": "s", "hostNetwork": true,
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}],
            "initContainers": [{"name": "i", "restartPolicy": "Always"}],
        },
        "status": {
            "phase": "Running", "podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    let item = Item::read(Kind::Pod, Wire::Item(&pod));
    assert_eq!(&*item.version, "7");
    let Ok(Object::Pod(found)) = item.object else {
        panic!("a pod");
    };
    assert_eq!(serde_json::to_value(&*found).expect("JSON"), kept);

    let node = json!({
        "metadata": {"name": "n", "labels": {"zone": "z"}, "annotations": {"a": "b"}},
        "spec": {"podCIDR": "10.0.0.0/8"}, "status": {"images": []},
    });
    let Ok(Object::Node(found)) = Item::read(Kind::Node, Wire::Item(&node)).object else {
        panic!("a node");
    };
    assert!(found.metadata.labels.is_some());
    assert_eq!(
        (&found.metadata.annotations, &found.spec, &found.status),
        (&None, &None, &None)
    );
}

/// What is kept of an object.
fn kept(kind: Kind, object: &Value) -> Value {
    match Item::read(kind, Wire::Item(object)).object {
        Ok(Object::Service(service)) => serde_json::to_value(&*service).expect("JSON"),
        Ok(Object::EndpointSlice(slice)) => serde_json::to_value(&*slice).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn services_and_slices_keep_what_is_read() {
    let service = json!({
        "metadata": {
            "name": "a", "namespace": "b", "labels": {"app": "a"},
            "annotations": {"networking.istio.io/traffic-distribution": "PreferClose"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "publishNotReadyAddresses": true, "selector": {"app": "a"}, "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "trafficDistribution": "PreferClose", "type": "NodePort",
            "ports": [{
                "name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http", "targetPort": "web",
                "nodePort": 30080,
            }],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
    });
    let expected = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "a", "namespace": "b", "labels": {"app": "a"},
            "annotations": {"networking.istio.io/traffic-distribution": "PreferClose"},
        },
        "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "internalTrafficPolicy": "Cluster", "publishNotReadyAddresses": true,
            "selector": {"app": "a"}, "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "trafficDistribution": "PreferClose", "type": "NodePort",
            "ports": [{
                "name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http", "targetPort": "web",
            }],
        },
    });
    assert_eq!(kept(Kind::Service, &service), expected);

    let slice = json!({
        "metadata": {
            "name": "a-x", "namespace": "b", "generation": 4,
            "labels": {"kubernetes.io/service-name": "a", "endpointslice.kubernetes.io/managed-by": "x"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "a", "uid": "u"}],
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
        "endpoints": [{
            "addresses": ["1.2.3.4"], "nodeName": "n", "zone": "z", "hostname": "h",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "hints": {"forZones": [{"name": "z"}]},
            "targetRef": {"kind": "Pod", "name": "a-1", "namespace": "b", "uid": "u"},
        }],
    });
    let expected = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "a-x", "namespace": "b", "labels": {"kubernetes.io/service-name": "a"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": ["1.2.3.4"], "nodeName": "n", "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": "a-1", "namespace": "b"},
        }],
    });
    assert_eq!(kept(Kind::EndpointSlice, &slice), expected);
}

#[test]
fn what_cannot_be_read_is_named() {
    let rows = [
        (
            json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "7"}, "spec": 7}),
            Some("Service b/a"),
            "7",
            "spec: ",
        ),
        (
            json!({"metadata": {"name": 7}}),
            None,
            "",
            "metadata.name: ",
        ),
        (json!("text"), None, "", ""),
    ];
    for (object, key, version, error) in rows {
        let item = Item::read(Kind::Service, Wire::Item(&object));
        let found = item.key.map(|key| key.to_string());
        assert_eq!((found.as_deref(), &*item.version), (key, version));
        let found = item.object.expect_err("wrong");
        assert!(found.contains(error), "{found}");
    }
}
