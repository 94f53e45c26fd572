//! What `ambit ztunnel` and `ambit waypoint` show of the proxies of a lab, as a table and as JSON.

use std::time::Duration;

use ambit_lab::harness::{Lab, Ran, eventually, program};
use serde_json::{Value, json};

use super::scene::{CLIENT, http_route, manifests};
use super::told::WAYPOINT;
use crate::flows::{identity, start};

const PATIENCE: Duration = Duration::from_secs(20);

/// The node proxy of the talker.
const NODE: &str = "node/node-1";

/// A policy of the waypoint, and one of the node proxies.
const POLICIES: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: of-v1, namespace: mesh}\nspec:\n  \
    targetRefs: [{kind: Service, group: \"\", name: v1}]\n  action: DENY\n  \
    rules: [{to: [{operation: {paths: [/denied]}}]}]\n\
    ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: of-pods, namespace: mesh}\nspec:\n  action: DENY\n  \
    rules: [{to: [{operation: {ports: [\"1\"]}}]}]\n";

/// A pod that talks to `v1` all the time.
fn talker() -> String {
    let load = program("load");
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: talker, namespace: mesh}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: talker, namespace: mesh}}\n\
         spec:\n  serviceAccountName: talker\n  nodeName: node-1\n  terminationGracePeriodSeconds: 1\n  \
         containers: [{{name: load, command: ['{}', websocket, 'http://v1:8082/', --rate, '5', --duration, 1h]}}]\n",
        load.display()
    )
}

fn lab() -> Lab {
    let rule = "- matches: [{path: {type: PathPrefix, value: /}}]\n  \
                backendRefs: [{name: v1, port: 80}]";
    start(
        manifests() + &talker() + &http_route("to-v1", "v1", rule) + POLICIES,
        &[],
    )
}

/// Runs `ambit KIND PART` where a proxy runs.
fn ambit(lab: &Lab, (place, kind): (&str, &str), part: &str, form: &str) -> Ran {
    let ambit = program("ambit").to_string_lossy().into_owned();
    lab.exec(place, &[&ambit, kind, part, "--output", form])
}

/// Whether a line of a table has these cells: `*` is any value, `+` a number that is not 0, `-` nothing.
fn has_cells(line: &str, cells: &[&str]) -> bool {
    let found: Vec<&str> = line
        .split("  ")
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    let same = |(found, wanted): (&&str, &&str)| match *wanted {
        "*" => *found != "-",
        "+" => found.parse::<f64>().is_ok_and(|number| number > 0.0),
        wanted => *found == wanted,
    };
    found.len() == cells.len() && found.iter().zip(cells).all(same)
}

/// Whether an object has all these fields.
fn has_fields(row: &Value, fields: &Value) -> bool {
    let mut fields = fields.as_object().into_iter().flatten();
    fields.all(|(name, value)| row[name] == *value)
}

/// Waits until the table and the JSON of a part have a row.
fn shows(lab: &Lab, proxy: (&str, &str), part: &str, cells: &[&str], fields: &Value) {
    let what = format!("{} {part} with {cells:?} and {fields}", proxy.1);
    let row = || {
        let table = ambit(lab, proxy, part, "table").success();
        let found = table.lines().skip(1).any(|line| has_cells(line, cells));
        let rows = ambit(lab, proxy, part, "json").json();
        let mut rows = rows.as_array().into_iter().flatten();
        (found && rows.any(|row| has_fields(row, fields))).then_some(())
    };
    eventually(&what, PATIENCE, row);
}

#[test]
fn proxies_show_what_they_know() {
    let lab = lab();
    let (ztunnel, waypoint) = ((NODE, "ztunnel"), (WAYPOINT, "waypoint"));
    let [service, bound] =
        ["v1", "waypoint"].map(|name| format!("mesh/{name}.mesh.svc.cluster.local"));
    let hostname = "v1.mesh.svc.cluster.local";
    let workload = ["mesh", "v1", "*", "node-1", "HBONE", "Healthy", "-"];
    for proxy in [ztunnel, waypoint] {
        shows(
            &lab,
            proxy,
            "workloads",
            &workload,
            &json!({"name": "v1", "node": "node-1"}),
        );
        let cells = ["mesh", hostname, "*", "1", &bound, "-", "-"];
        let fields = json!({"hostname": hostname});
        shows(&lab, proxy, "services", &cells, &fields);
    }

    let of_pods = ["mesh/of-pods", "Deny", "Namespace", "1", "false", "-"];
    shows(
        &lab,
        ztunnel,
        "policies",
        &of_pods,
        &json!({"action": "Deny", "scope": "Namespace"}),
    );
    let of_v1 = ["mesh/of-v1", "Deny", "-", "1", "false", "-"];
    shows(
        &lab,
        waypoint,
        "policies",
        &of_v1,
        &json!({"action": "Deny", "dryRun": false}),
    );

    let rule = ["Http/mesh/to-v1/0", "1", "1", "1"];
    let fields = json!({"key": {"protocol": "Http", "route": "mesh/to-v1", "rule": 0}});
    shows(&lab, waypoint, "routes", &rule, &fields);
    let none = ambit(&lab, ztunnel, "routes", "table").failure();
    assert!(none.contains("unrecognized subcommand 'routes'"), "{none}");

    for (proxy, account) in [(ztunnel, "talker"), (waypoint, "waypoint")] {
        let identity = identity("mesh", account);
        let cells = [&*identity, "Available", "*", "*", "1", "*", "-"];
        shows(
            &lab,
            proxy,
            "certificates",
            &cells,
            &json!({"identity": identity, "lastError": null}),
        );
    }

    let denied = lab.load(CLIENT, &["get", "--fail", "http://v1.mesh/denied"]);
    assert_ne!(denied.code, 0, "{denied}");
    let caller = identity("mesh", "client");
    let reason = "denied by policy mesh/of-v1, rule 0";
    let cells = [
        "1",
        "0",
        "inbound",
        "mesh/client",
        &caller,
        "-",
        "-",
        "-",
        &service,
        "80",
        "*",
        reason,
    ];
    let fields =
        json!({"count": 1, "sourceIdentity": caller, "service": service, "reason": reason});
    shows(&lab, waypoint, "denials", &cells, &fields);

    let fields = json!({
        "sourceIdentity": identity("mesh", "talker"), "destinationService": service, "security": "mutual_tls",
    });
    let counts = ["mutual_tls", "+", "+", "+"];
    let outbound = ["outbound", "*", "mesh/talker", "*", "*", &service];
    shows(
        &lab,
        ztunnel,
        "connections",
        &[&outbound[..], &counts].concat(),
        &fields,
    );
    let inbound = ["inbound", "*", "mesh/talker", "*", "-", &service];
    shows(
        &lab,
        waypoint,
        "connections",
        &[&inbound[..], &counts].concat(),
        &fields,
    );
}
