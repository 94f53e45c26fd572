//! Another authority, as `manifests/overlays/cert-manager` has it: it signs, publishes the roots, and keeps the
//! certificate that the control plane serves with.
//!
//! In cert-manager's place stands a control plane of its own, which signs by the same API at the same address, with a
//! key that this test made.

use ambit_lab::harness::eventually;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::installed::{Cluster, MANIFESTS, SYSTEM};
use crate::plane::PATIENCE;
use crate::pods::name;
use crate::waypoint::{URL, programs};

/// Where istio-csr is.
const NAMESPACE: &str = "cert-manager";
const SIGNER: &str = "cert-manager-istio-csr";

/// A root, and what it signs.
struct Root {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let names = &mut params.distinguished_name;
        names.push(DnType::CommonName, "the root of another authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self {
            certificate: params.self_signed(&key).expect("a root").pem(),
            key: key.serialize_pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Its Secret as the stand-in knows it.
    fn plugged_in(&self) -> Value {
        let data = json!({
            "ca-cert.pem": self.certificate,
            "ca-key.pem": self.key,
            "root-cert.pem": self.certificate,
            "cert-chain.pem": "",
        });
        secret("cacerts", &data)
    }

    /// What cert-manager makes of the overlay's Certificate.
    fn issued(&self) -> Value {
        let key = KeyPair::generate().expect("a key");
        let name = "ambit-control.ambit-system.svc";
        let names = [name.to_owned(), format!("{name}.cluster.local")];
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let data = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()});
        secret("ambit-control-tls", &data)
    }
}

fn secret(name: &str, data: &Value) -> Value {
    let metadata = json!({"name": name});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
}

/// Who signs: with the rights of a control plane, and with none of its other duties that matter here.
fn signer() -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {SIGNER}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {SIGNER}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ambit-control}}
subjects: [{{kind: ServiceAccount, name: {SIGNER}, namespace: {NAMESPACE}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {SIGNER}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}
subjects: [{{kind: ServiceAccount, name: {SIGNER}, namespace: {NAMESPACE}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {SIGNER}}}
rules: [{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: ['*']}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {SIGNER}-leases}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {SIGNER}}}
subjects: [{{kind: ServiceAccount, name: {SIGNER}, namespace: {NAMESPACE}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {SIGNER}}}
spec: {{selector: {{app: {SIGNER}}}, ports: [{{name: grpc, port: 443, targetPort: 15012}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {SIGNER}}}
spec:
  selector: {{matchLabels: {{app: {SIGNER}}}}}
  template:
    metadata: {{labels: {{app: {SIGNER}}}}}
    spec:
      serviceAccountName: {SIGNER}
      containers:
      - name: signer
        image: ambit:0.1.0
        command: [/ambit]
        args:
        - control
        - --source=kubernetes
        - --namespace={NAMESPACE}
        - --health-address=0.0.0.0:15021
        - --dns-name={SIGNER}.{NAMESPACE}.svc
        readinessProbe: {{httpGet: {{path: /healthz/ready, port: 15021}}, periodSeconds: 1}}
"
    )
}

#[test]
fn another_authority_signs_and_the_mesh_holds_no_key() {
    let cluster = Cluster::bare(2);
    cluster.plane.define_kind("cert-manager.io", "Certificate");
    cluster.plane.established();
    let root = Root::new();
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    cluster.apply(NAMESPACE, &root.plugged_in().to_string());
    cluster.kubectl(&["apply", "-k", &format!("{MANIFESTS}/overlays/cert-manager")]);
    cluster.apply(NAMESPACE, &signer());
    cluster.apply(SYSTEM, &root.issued().to_string());
    let deployment = format!("deploy/{SIGNER}");
    cluster.plane.rolled_out(NAMESPACE, &deployment);
    cluster.await_mesh();

    let samples = format!("{MANIFESTS}/samples");
    cluster.kubectl(&["apply", "-f", &format!("{samples}/namespace.yaml")]);
    cluster.kubectl(&["apply", "-f", &samples]);
    cluster.apply("shop", &programs());
    for object in ["deploy/reviews-v1", "deploy/reviews-v2"] {
        cluster.plane.rolled_out("shop", object);
    }
    cluster.plane.condition("shop", "pod/frontend", "Ready");
    cluster
        .plane
        .condition("shop", "gateway/waypoint", "Programmed");
    // Node proxies and the waypoint have certificates that each other's roots hold for good.
    let answer = cluster.get("shop/frontend", URL);
    let _ = answer.success();
    for own in ["ambit-ca", "cacerts"] {
        let key = cluster.plane.object("secret", SYSTEM, own);
        assert_eq!(key, None, "a key of the mesh's own");
    }
    let said = |namespace: &str, selector: &str| -> String {
        let pods = cluster.plane.pods_of(namespace, selector);
        let log = |pod: &Value| {
            cluster
                .lab
                .run(["logs", "-n", namespace, &name(pod)])
                .success()
        };
        pods.iter().map(log).collect()
    };
    let control = "app.kubernetes.io/name=ambit-control";
    let signed = "certificate signed";
    assert!(said(NAMESPACE, &format!("app={SIGNER}")).contains("ns/shop/sa/frontend"));
    assert!(!said(SYSTEM, control).contains(signed));

    // The certificate that the control plane serves with is renewed by whoever keeps it.
    cluster.apply(SYSTEM, &root.issued().to_string());
    eventually("the control plane's next certificate", PATIENCE, || {
        let read = "read the server certificate again";
        let replicas = said(SYSTEM, control).matches(read).count();
        (replicas == 2).then_some(())
    });
}
