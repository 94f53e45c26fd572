//! The lab as kubelet of a real cluster.

use ambit_lab::harness::eventually;
use serde_json::{Value, json};

use crate::plane::{ControlPlane, PATIENCE};

pub(crate) const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: echo
        image: ambit/echo
        resources: {requests: {cpu: 10m, memory: 16Mi}}
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

pub(crate) const CLIENT: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      containers:
      - {name: sleep, image: none, command: [sleep, infinity]}
";

/// Plain text is refused: what passes is in tunnels.
pub(crate) const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict}
spec: {mtls: {mode: STRICT}}
";

pub(crate) fn name(pod: &Value) -> String {
    pod["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn what_kubectl_applies_runs_and_what_it_deletes_ends() {
    let plane = ControlPlane::start();
    let lab = plane.lab(2);
    plane.apply(WEB);
    plane.apply(CLIENT);
    plane.rolled_out("default", "deploy/web");
    plane.rolled_out("default", "ds/client");

    let clients = plane.pods("app=client");
    let mut nodes: Vec<&Value> = clients.iter().map(|pod| &pod["spec"]["nodeName"]).collect();
    nodes.sort_by_key(|node| node.to_string());
    assert_eq!(nodes, [&json!("node-1"), &json!("node-2")], "one a node");
    for client in &clients {
        let client = format!("default/{}", name(client));
        let answer = lab.get(&client, "http://web.default/");
        assert!(
            answer["hostname"]
                .as_str()
                .is_some_and(|it| it.starts_with("web-")),
            "{answer}"
        );
    }

    let web = plane.pods("app=web");
    assert_eq!(web.len(), 2);
    for pod in &web {
        let status = &pod["status"];
        assert_eq!(status["phase"], "Running", "{pod}");
        assert_eq!(status["podIPs"].as_array().map(Vec::len), Some(2), "{pod}");
        assert_eq!(status["containerStatuses"][0]["ready"], true, "{pod}");
    }
    let _ = plane
        .kubectl(&["delete", "deploy/web", "ds/client"])
        .success();
    plane.no_pods("app in (web, client)");
    eventually("the lab's pods are gone", PATIENCE, || {
        lab.objects("pods", "default").is_empty().then_some(())
    });
}

#[test]
fn accounts_files_and_results() {
    let plane = ControlPlane::start();
    let lab = plane.lab(1);
    plane.apply(
        "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: sleep
    image: none
    command: [sleep, infinity]
    volumeMounts:
    - {name: settings, mountPath: /run/settings}
    - {name: token, mountPath: /run/token}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - name: token
    projected: {sources: [{serviceAccountToken: {path: mesh, audience: istio-ca, expirationSeconds: 600}}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: work, image: none, command: [sh, -c, exit 0]}]
",
    );
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let _ = plane
        .kubectl(&["wait", "--for=condition=Ready", "pod/reader", &timeout])
        .success();
    let _ = plane
        .kubectl(&["wait", "--for=condition=Complete", "job/once", &timeout])
        .success();

    let read = |file: &str| lab.exec("default/reader", &["cat", file]).success();
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": read("/run/token/mesh"), "audiences": ["istio-ca"]},
    });
    let answer = plane
        .kubectl_with_input(&["create", "-o", "json", "-f", "-"], &review.to_string())
        .json();
    let status = &answer["status"];
    assert_eq!(status["authenticated"], true, "{answer}");
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:default"
    );
    let extra = &status["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["reader"]),
        "{answer}"
    );
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"],
        json!(["node-1"]),
        "{answer}"
    );

    // The API server as a pod finds it: by name, by its address, with the certificate it was given.
    let secrets = "/var/run/secrets/kubernetes.io/serviceaccount";
    let ask = format!(
        "curl -sS --fail --cacert {secrets}/ca.crt -H \"Authorization: Bearer $(cat {secrets}/token)\" \
         https://kubernetes.default.svc/version https://$KUBERNETES_SERVICE_HOST/version"
    );
    let versions = lab.exec("default/reader", &["sh", "-c", &ask]).success();
    assert_eq!(versions.matches("gitVersion").count(), 2, "{versions}");

    assert_eq!(read("/run/settings/colour"), "red");
    let _ = plane
        .kubectl(&[
            "patch",
            "cm/settings",
            "-p",
            r#"{"data":{"colour":"blue"}}"#,
        ])
        .success();
    eventually("the file changes", PATIENCE, || {
        (read("/run/settings/colour") == "blue").then_some(())
    });
}
