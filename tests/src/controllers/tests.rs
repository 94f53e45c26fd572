//! The controllers together, as a cluster behaves.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodIP};

use super::{is_ready, is_terminating, namespace, reconcile};
use crate::api::{Applied, Key, Manifest, Published, Store, parse};

fn store() -> Store {
    let mut store = Store::default();
    store.namespaces.put(namespace("default"));
    for name in ["node-1", "node-2"] {
        let node = serde_json::json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        });
        store
            .nodes
            .put(serde_json::from_value(node).expect("a node"));
    }
    reconcile(&mut store);
    store
}

fn apply(store: &mut Store, text: &str) {
    let manifest = Manifest {
        file: "t.yaml".to_owned(),
        text: text.to_owned(),
    };
    let (documents, errors) = parse(&[manifest]);
    assert!(errors.is_empty(), "{errors:?}");
    for document in documents {
        store.apply(&document).expect("a good object");
    }
    reconcile(store);
}

/// Does what kubelets do: starts everything, ends what is to end. Returns the living pods' names.
fn run_pods(store: &mut Store) -> Vec<String> {
    let pods: Vec<Pod> = store.pods.iter().map(|(_, pod)| pod.clone()).collect();
    for (number, pod) in pods.into_iter().enumerate() {
        let key = Key::of(&pod.metadata);
        if is_terminating(&pod) {
            store.pods.remove(&key);
            continue;
        }
        if is_ready(&pod) {
            continue;
        }
        store.pods.update(&key, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Running".to_owned());
            status.pod_ips = Some(vec![PodIP {
                ip: format!("10.244.9.{number}"),
            }]);
            let ready = PodCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                ..PodCondition::default()
            };
            status.conditions = Some(vec![ready]);
        });
    }
    reconcile(store);
    living(store)
}

fn living(store: &Store) -> Vec<String> {
    let living = store.pods.iter().filter(|(_, pod)| !is_terminating(pod));
    living.map(|(key, _)| key.name.clone()).collect()
}

fn settle(store: &mut Store) -> Vec<String> {
    for _ in 0..20 {
        let before = store.changes();
        run_pods(store);
        if store.changes() == before {
            break;
        }
    }
    living(store)
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n\
    spec:\n  replicas: 3\n  selector: {matchLabels: {app: web}}\n  template:\n    \
    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, image: one}]}\n";

#[test]
fn a_deployment_is_spread_scaled_and_rolled() {
    let mut store = store();
    apply(&mut store, DEPLOYMENT);
    assert_eq!(settle(&mut store).len(), 3);
    let on = |store: &Store, node: &str| {
        let nodes = store
            .pods
            .iter()
            .filter_map(|(_, pod)| pod.spec.as_ref()?.node_name.clone());
        nodes.filter(|name| name == node).count()
    };
    assert_eq!((on(&store, "node-1"), on(&store, "node-2")), (2, 1));

    apply(
        &mut store,
        &DEPLOYMENT.replace("replicas: 3", "replicas: 5"),
    );
    assert_eq!(settle(&mut store).len(), 5);
    apply(&mut store, DEPLOYMENT);
    let before = settle(&mut store);
    assert_eq!(before.len(), 3);

    apply(&mut store, &DEPLOYMENT.replace("one", "two"));
    // A quarter of three: one more than wanted at most, never one less.
    for _ in 0..20 {
        run_pods(&mut store);
        let ready = store
            .pods
            .iter()
            .filter(|(_, pod)| is_ready(pod) && !is_terminating(pod));
        assert!((3..=4).contains(&ready.count()), "{:?}", living(&store));
    }
    let after = living(&store);
    assert_eq!(after.len(), 3);
    assert!(
        after.iter().all(|name| !before.contains(name)),
        "{before:?} {after:?}"
    );
    let status = store
        .deployments
        .iter()
        .next()
        .and_then(|(_, it)| it.status.clone());
    let status = status.expect("a status");
    assert_eq!(
        (status.ready_replicas, status.updated_replicas),
        (Some(3), Some(3))
    );

    store.deployments.remove(&Key::new("default", "web"));
    reconcile(&mut store);
    assert!(settle(&mut store).is_empty());
    assert_eq!(store.replica_sets.iter().count(), 0);
}

#[test]
fn a_stateful_set_starts_in_order_and_is_replaced_from_the_end() {
    let mut store = store();
    let text = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  \
        replicas: 2\n  serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    \
        metadata: {labels: {app: db}}\n    spec: {containers: [{name: c, image: one}]}\n";
    apply(&mut store, text);
    assert_eq!(living(&store), ["db-0"]);
    assert_eq!(run_pods(&mut store), ["db-0", "db-1"]);
    settle(&mut store);
    apply(&mut store, &text.replace("one", "two"));
    assert_eq!(living(&store), ["db-0"], "the last is replaced first");
    assert_eq!(settle(&mut store), ["db-0", "db-1"]);
    let images: Vec<Option<String>> = store
        .pods
        .iter()
        .filter_map(|(_, pod)| Some(pod.spec.as_ref()?.containers[0].image.clone()))
        .collect();
    assert_eq!(images, vec![Some("two".to_owned()); 2]);
}

#[test]
fn services_get_addresses_and_endpoints_by_named_port() {
    let mut store = store();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, \
        ports: [{port: 80, targetPort: http}]}\n";
    apply(&mut store, service);
    apply(
        &mut store,
        "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {clusterIP: None, \
         ports: [{port: 80}]}\n",
    );
    apply(
        &mut store,
        &DEPLOYMENT.replace("image: one", "ports: [{name: http, containerPort: 8080}]"),
    );
    let slices = |store: &Store| -> Vec<(Option<i32>, usize)> {
        let slices = store
            .endpoint_slices
            .iter()
            .filter(|(_, it)| it.address_type == "IPv4");
        let port = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| {
            slice
                .ports
                .as_ref()
                .and_then(|ports| ports.first())
                .and_then(|port| port.port)
        };
        let ready = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| {
            let endpoints = slice.endpoints.iter();
            endpoints
                .filter(|it| it.conditions.as_ref().and_then(|it| it.ready) == Some(true))
                .count()
        };
        slices
            .map(|(_, slice)| (port(slice), ready(slice)))
            .collect()
    };
    settle(&mut store);
    assert_eq!(slices(&store), [(Some(8080), 3)]);
    let spec = |store: &Store, name: &str| {
        let service = store.services.get(&Key::new("default", name));
        service
            .and_then(|service| service.spec.clone())
            .expect("a spec")
    };
    let addresses = spec(&store, "web").cluster_ips.expect("addresses");
    assert_eq!(addresses, ["10.96.0.20"]);
    assert_eq!(
        spec(&store, "other").cluster_ips.expect("addresses"),
        ["None"]
    );
}

/// A service with this in its spec: its policy, families, and addresses.
fn families(store: &mut Store, spec: &str) -> String {
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}ports: [{{port: 80}}]}}\n"
    );
    apply(store, &service);
    settle(store);
    let service = store.services.get(&Key::new("default", "web"));
    let spec = service.and_then(|it| it.spec.clone()).expect("a spec");
    let all = [spec.ip_families, spec.cluster_ips].map(|it| it.expect("a list").join(" "));
    let policy = spec.ip_family_policy.expect("a policy");
    assert_eq!(
        all[1].split(' ').next(),
        spec.cluster_ip.as_deref(),
        "the first is the one"
    );
    format!("{policy}, {}, {}", all[0], all[1])
}

#[test]
fn a_service_is_for_one_family_unless_it_asks_for_two() {
    let (v4, v6) = ("10.96.0.20", "fd00:10:96::14");
    for (spec, is) in [
        ("", format!("SingleStack, IPv4, {v4}")),
        (
            "ipFamilyPolicy: SingleStack, ",
            format!("SingleStack, IPv4, {v4}"),
        ),
        ("ipFamilies: [IPv6], ", format!("SingleStack, IPv6, {v6}")),
        (
            "clusterIP: 'fd00:10:96::99', ",
            "SingleStack, IPv6, fd00:10:96::99".to_owned(),
        ),
        (
            "ipFamilyPolicy: PreferDualStack, ",
            format!("PreferDualStack, IPv4 IPv6, {v4} {v6}"),
        ),
        (
            "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6], ",
            format!("RequireDualStack, IPv6 IPv4, {v6} {v4}"),
        ),
        (
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv4], ",
            format!("PreferDualStack, IPv6 IPv4, {v6} {v4}"),
        ),
        (
            "clusterIP: None, selector: {app: web}, ",
            "SingleStack, IPv4, None".to_owned(),
        ),
        (
            "clusterIP: None, ",
            "RequireDualStack, IPv4 IPv6, None".to_owned(),
        ),
    ] {
        assert_eq!(families(&mut store(), spec), is, "{spec}");
    }
}

#[test]
fn a_service_may_come_to_be_for_two_families_and_keeps_its_address() {
    let mut store = store();
    let one = "SingleStack, IPv4, 10.96.0.20";
    let two = "PreferDualStack, IPv4 IPv6, 10.96.0.20 fd00:10:96::14";
    assert_eq!(families(&mut store, ""), one);
    for (policy, is) in [
        ("PreferDualStack", two),
        ("SingleStack", one),
        ("PreferDualStack", two),
    ] {
        let spec = format!("ipFamilyPolicy: {policy}, ");
        assert_eq!(families(&mut store, &spec), is);
        assert_eq!(families(&mut store, ""), is, "what is not said stays");
    }
}

#[test]
fn a_daemon_set_runs_on_every_node_and_a_job_until_done() {
    let mut store = store();
    apply(
        &mut store,
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\nspec: {selector: {matchLabels: \
         {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c}]}}}\n",
    );
    assert_eq!(settle(&mut store).len(), 2);
    apply(
        &mut store,
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec: {template: {spec: {containers: \
         [{name: c}], restartPolicy: Never}}}\n",
    );
    let job_pod = living(&store)
        .into_iter()
        .find(|name| name.starts_with("once-"))
        .expect("a pod");
    store.pods.update(&Key::new("default", &job_pod), |pod| {
        pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    });
    reconcile(&mut store);
    let job = store
        .jobs
        .get(&Key::new("default", "once"))
        .and_then(|job| job.status.clone());
    let conditions = job
        .and_then(|status| status.conditions)
        .expect("a condition");
    assert_eq!(conditions[0].type_, "Complete");
    let running = living(&store)
        .into_iter()
        .filter(|name| name.starts_with("once-"));
    assert_eq!(running.count(), 1);
}

#[test]
fn a_namespace_takes_everything_along() {
    let mut store = store();
    apply(
        &mut store,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    );
    let manifest = DEPLOYMENT.replace("name: web}", "name: web, namespace: shop}");
    apply(&mut store, &manifest);
    settle(&mut store);
    let key = Key::new("", "shop");
    store.namespaces.update(&key, |it| {
        it.metadata.deletion_timestamp = Some(crate::api::now())
    });
    reconcile(&mut store);
    settle(&mut store);
    assert!(!store.namespaces.contains(&key));
    assert_eq!(store.pods.iter().count(), 0);
    assert_eq!(store.deployments.iter().count(), 0);
}

#[test]
fn a_pod_without_its_account_waits() {
    let mut store = store();
    apply(
        &mut store,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: web, containers: \
         [{name: c}]}\n",
    );
    let pod = store.pods.get(&Key::new("default", "a")).expect("the pod");
    let message = pod
        .status
        .as_ref()
        .and_then(|status| status.message.as_deref());
    assert_eq!(message, Some("serviceaccount \"web\" not found"));
    apply(
        &mut store,
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n",
    );
    let pod = store.pods.get(&Key::new("default", "a")).expect("the pod");
    assert!(
        pod.spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
    );
    let text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n";
    let manifest = Manifest {
        file: "t.yaml".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(
        store.apply(&parse(&[manifest]).0[0]),
        Ok(Applied::Unchanged)
    );
}

#[test]
fn parameters_of_a_waypoint_change_and_roll_what_runs_it() {
    let mut store = store();
    store.publish(Published::default());
    let options = |text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: options}}\ndata: {{deployment: '{text}'}}\n"
        )
    };
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: w}\n\
                   spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}], \
                   infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: options}}}\n";
    apply(&mut store, gateway);
    let key = Key::new("default", "w");
    assert!(
        store.deployments.get(&key).is_none(),
        "its parameters are not there"
    );
    let template = |store: &Store| {
        let found = store.deployments.get(&key).cloned().expect("what runs it");
        serde_json::to_value(found.spec.expect("a spec").template).expect("JSON")
    };
    apply(
        &mut store,
        &options("spec: {template: {metadata: {annotations: {a: b}}}}"),
    );
    let first = template(&store);
    assert_eq!(first["metadata"]["annotations"]["a"], "b");
    let sets = store.replica_sets.iter().count();
    apply(
        &mut store,
        &options("spec: {template: {spec: {terminationGracePeriodSeconds: 5}}}"),
    );
    let second = template(&store);
    assert_eq!(second["spec"]["terminationGracePeriodSeconds"], 5);
    assert_eq!(store.replica_sets.iter().count(), sets + 1, "it rolls");
    let replicas = |store: &Store| {
        let found = store.deployments.get(&key).cloned().expect("what runs it");
        found.spec.and_then(|spec| spec.replicas)
    };
    store.deployments.update(&key, |it| {
        it.spec.get_or_insert_default().replicas = Some(3);
    });
    apply(
        &mut store,
        &options(
            "spec: {template: {spec: {terminationGracePeriodSeconds: 5}}, minReadySeconds: 1}",
        ),
    );
    assert_eq!(replicas(&store), Some(3), "scaled by hand");
    apply(
        &mut store,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: options}\ndata:\n  \
         deployment: 'spec: {template: {spec: {terminationGracePeriodSeconds: 5}}, replicas: 2}'\n  \
         service: 'spec: {type: LoadBalancer, ports: [{name: more, port: 9, targetPort: 9}]}'\n",
    );
    assert_eq!(replicas(&store), Some(2), "as the parameters say");
    let service = store.services.get(&key).cloned().expect("its Service");
    let spec = service.spec.expect("a spec");
    assert_eq!(spec.type_.as_deref(), Some("LoadBalancer"));
    assert!(spec.ports.iter().flatten().any(|port| port.port == 9));
    apply(&mut store, &options("- no object"));
    assert_eq!(
        template(&store),
        second,
        "it stays while they cannot be read"
    );
}
