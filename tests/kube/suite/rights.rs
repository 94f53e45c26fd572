//! What the roles in `manifests/` allow, held against what was asked of the API server in the life of a mesh.

use std::collections::BTreeSet;

use ambit_lab::harness::{eventually, eventually_ok};

use crate::audit::{calls, differences, rights};
use crate::installed::{Cluster, MANIFESTS, SYSTEM};
use crate::mesh::{LONELY, hide, is_told};
use crate::plane::{ControlPlane, PATIENCE};
use crate::waypoint::{PARAMETERS, programs};

/// One object of every kind that has a status and that neither the samples nor an installation have, and a Secret that a
/// policy refers to, in a namespace that allows it.
const OBJECTS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews-v1}]
  rules: [{backendRefs: [{name: reviews-v2, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: tls}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews-v1}]
  hostnames: [reviews.example.com]
  rules: [{backendRefs: [{name: reviews-v2, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: tcp}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews-v1}]
  rules: [{backendRefs: [{name: reviews-v2, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: tls}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews-v2}]
  validation: {hostname: reviews.example.com, caCertificateRefs: [{group: '', kind: Secret, name: roots}]}
---
apiVersion: v1
kind: Secret
metadata: {name: roots}
stringData: {ca.crt: nothing}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: roots}
rules: [{apiGroups: [''], resources: [secrets], resourceNames: [roots], verbs: [watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: roots}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: roots}
subjects: [{kind: ServiceAccount, name: ambit-control, namespace: ambit-system}]
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: budget}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews-v2}]
  retryConstraint: {budget: {percent: 10, interval: 10s}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  jwtRules: [{issuer: example.com, jwks: '{"keys": []}'}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shelf}
spec:
  hosts: [shelf.internal]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: reviews}}
---
apiVersion: ambit.dev/v1alpha1
kind: ExternalAuthorizer
metadata: {name: judge}
spec: {protocol: GRPC, backendRef: {name: reviews-v1, port: 8080}}
---
apiVersion: ambit.dev/v1alpha1
kind: FaultInjection
metadata: {name: fault}
spec: {abort: {status: 503}}
---
apiVersion: ambit.dev/v1alpha1
kind: RateLimit
metadata: {name: limit}
spec: {requests: 10}
"#;

#[test]
fn what_is_allowed_is_what_is_used() {
    // It does not stream lists at first: only then is anything listed.
    let plane = ControlPlane::start_with(&["--feature-gates=WatchList=false"]);
    plane.define();
    let lab = plane.lab(2);
    let cluster = Cluster { lab, plane };
    cluster.kubectl(&["create", "ns", "shed"]);
    cluster.apply("shed", LONELY);
    cluster.plane.condition("shed", "pod/lonely", "Ready");
    hide(&cluster);
    cluster.install();
    cluster.plane.stop();
    cluster.plane.go_on();
    for workload in ["deploy/ambit-control", "ds/ztunnel"] {
        cluster.kubectl(&["rollout", "restart", "-n", SYSTEM, workload]);
    }
    cluster.await_mesh();

    let samples = format!("{MANIFESTS}/samples");
    for path in [&format!("{samples}/namespace.yaml"), &samples] {
        cluster.kubectl(&["apply", "-f", path]);
    }
    let all = [&programs(), OBJECTS, PARAMETERS].join("---\n");
    cluster.apply("shop", &all);
    let in_mesh = "istio.io/dataplane-mode=ambient";
    cluster.kubectl(&["label", "ns", "shed", in_mesh]);
    cluster.all_are("shop", true);
    eventually("an event about the pod that is not found", PATIENCE, || {
        is_told(&cluster)
    });
    what_ran_a_waypoint_goes_when_it_is_anothers(&cluster);

    let rights = rights(&cluster.plane);
    let accounts: BTreeSet<&String> = rights.iter().map(|right| &right.account).collect();
    assert_eq!(accounts.len(), 2, "control and the agent: {accounts:?}");
    let timeout = format!("--timeout={}s", 3 * PATIENCE.as_secs());
    let agents = ["delete", "-n", SYSTEM, "ds/ztunnel", "--cascade=foreground"];
    cluster.kubectl(&[&agents[..], &[&timeout]].concat());

    let made = eventually_ok("a call for each right, and no other", PATIENCE, || {
        let calls = cluster.plane.audit().iter().flat_map(calls).collect();
        let wrong = differences(&rights, &calls);
        match wrong.is_empty() {
            true => Ok(calls.len()),
            false => Err(wrong.join("\n")),
        }
    });
    eprintln!("{} rights, {made} different calls", rights.len());
}

/// Whose Gateway is deleted is removed by the garbage collector as well; whose class is another one is not.
fn what_ran_a_waypoint_goes_when_it_is_anothers(cluster: &Cluster) {
    let there = |kind: &str| cluster.plane.object(kind, "shop", "scaled").is_some();
    eventually("an autoscaler", PATIENCE, || there("hpa").then_some(()));
    let class = r#"{"spec": {"gatewayClassName": "another"}}"#;
    cluster.kubectl(&[
        "patch",
        "-n",
        "shop",
        "gateway/scaled",
        "--type=merge",
        "-p",
        class,
    ]);
    for kind in ["hpa", "pdb", "deployment", "service", "serviceaccount"] {
        eventually(&format!("no {kind}"), PATIENCE, || {
            (!there(kind)).then_some(())
        });
    }
}
