//! A peer that does not play by the rules: a pod outside the mesh which stole the authority's key, and whose connections no proxy
//! touches.

use ambit_lab::harness::{Lab, program};
use serde_json::Value;

use crate::fixtures::{client, host};

/// Where the mesh's certificate authority keeps its key in the lab, and where the thief has it.
const CA: [&str; 2] = ["/run/ambit-lab/mesh/ca", "/ca"];

/// The pod `stranger` of namespace `outside`, on node-1.
pub(crate) fn thief() -> String {
    let [source, target] = CA;
    let mounted = format!("infinity], volumeMounts: [{{name: ca, mountPath: {target}}}]");
    client("outside", "stranger", "node-1").replace("infinity]", &mounted)
        + &format!("  volumes: [{{name: ca, hostPath: {{path: {source}}}}}]\n")
}

/// What comes of the tunnel that it asks the proxy at `address` for.
pub(crate) fn tunnel(lab: &Lab, address: &str, arguments: &[&str]) -> Value {
    let peer = program("peer").to_string_lossy().into_owned();
    let to = format!("{}:15008", host(address));
    let mut argv = vec![&*peer, "tunnel", &to, "--ca", CA[1]];
    argv.extend(arguments);
    lab.exec("outside/stranger", &argv).json()
}
