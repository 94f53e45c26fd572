//! A machine without a kubelet in the mesh: it has joined as a WorkloadEntry with a token, captures its own traffic, and is what
//! any pod is: who calls it and whom it calls is known by certificates, and judged.

use ambit_lab::harness::Lab;

use crate::fixtures::{ambient_shop, client, namespace};
use crate::flows::{start, tunnelled};

/// The machine, as the lab names it.
const VM: &str = "machine/vm";

/// Its WorkloadEntry and the entry's service account, and the service that it is behind.
fn entry() -> String {
    "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: vm, namespace: shop}\n\
     ---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
     metadata: {name: vm, namespace: shop, labels: {app: vm, networking.istio.io/tunnel: http}}\n\
     spec: {address: 172.30.0.201, serviceAccount: vm}\n\
     ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: vm, namespace: shop}\n\
     spec:\n  hosts: [vm.example.com]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
     ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]\n  \
     workloadSelector: {labels: {app: vm}}\n"
        .to_owned()
}

/// The shop of two nodes, a stranger outside the mesh, and a machine that has not joined.
fn lab() -> Lab {
    let all = ambient_shop() + &namespace("outside", "") + &client("outside", "stranger", "node-1");
    start(all + &entry(), &["--machine", "vm"])
}

fn join(lab: &Lab, arguments: &[&str]) {
    let all = ["join", "vm", "shop/vm"].iter().chain(arguments);
    let _ = lab.run(all).success();
}

#[test]
fn pods_and_a_machine_reach_each_other_by_mutual_tls() {
    let lab = lab();
    join(&lab, &[]);
    for number in [1, 2] {
        let pod = format!("client-{number}");
        let answer = lab.get(&format!("shop/{pod}"), "http://vm.example.com/");
        assert_eq!(answer["hostname"], "vm");
        let node = format!("node-{number}");
        tunnelled(&lab, "shop", [(&pod, &node), ("vm", "vm")], 8080);
    }
    for name in ["echo-1.shop", "echo-2.shop.svc.cluster.local"] {
        let answer = lab.get(VM, &format!("http://{name}/"));
        assert_eq!(answer["hostname"], name[..6]);
    }
    tunnelled(&lab, "shop", [("vm", "vm"), ("echo-2", "node-2")], 8080);
}
