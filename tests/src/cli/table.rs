//! Objects as tables for people.

use std::fmt::Write;

use serde_json::Value;

use crate::mesh::conditions;
use crate::protocol::Status;

type Column = (&'static str, fn(&Value) -> String);

/// A table of objects of one kind; with a namespace column when of `every` namespace.
pub(super) fn render(objects: &[Value], every: bool) -> String {
    let Some(first) = objects.first() else {
        return "nothing found\n".to_owned();
    };
    let kind = first["kind"].as_str().unwrap_or_default();
    let namespaced = !first["metadata"]["namespace"].is_null();
    let mut columns: Vec<Column> = Vec::new();
    if every && namespaced {
        columns.push(("NAMESPACE", |object| text(&object["metadata"]["namespace"])));
    }
    columns.push(("NAME", |object| text(&object["metadata"]["name"])));
    columns.extend(columns_of(kind));
    let header = columns
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect();
    let rows = objects
        .iter()
        .map(|object| columns.iter().map(|(_, cell)| cell(object)).collect());
    align(std::iter::once(header).chain(rows).collect())
}

fn columns_of(kind: &str) -> Vec<Column> {
    match kind {
        "Pod" => vec![
            ("READY", pod_ready),
            ("STATUS", pod_status),
            ("RESTARTS", |pod| {
                let all = pod["status"]["containerStatuses"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let restarts = all.iter().filter_map(|it| it["restartCount"].as_i64());
                restarts.sum::<i64>().to_string()
            }),
            ("IP", |pod| text(&pod["status"]["podIP"])),
            ("NODE", |pod| text(&pod["spec"]["nodeName"])),
        ],
        "Deployment" | "StatefulSet" | "ReplicaSet" => vec![
            ("READY", |object| {
                let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
                format!(
                    "{ready}/{}",
                    object["spec"]["replicas"].as_i64().unwrap_or(1)
                )
            }),
            ("UP-TO-DATE", |object| {
                number(&object["status"]["updatedReplicas"])
            }),
        ],
        "DaemonSet" => vec![
            ("DESIRED", |object| {
                number(&object["status"]["desiredNumberScheduled"])
            }),
            ("READY", |object| number(&object["status"]["numberReady"])),
        ],
        "Job" => vec![
            ("SUCCEEDED", |object| number(&object["status"]["succeeded"])),
            ("FAILED", |object| number(&object["status"]["failed"])),
        ],
        "Service" => vec![
            ("TYPE", |service| text(&service["spec"]["type"])),
            ("CLUSTER-IP", |service| {
                list(&service["spec"]["clusterIPs"], text)
            }),
            ("PORTS", |service| {
                list(&service["spec"]["ports"], |port| {
                    format!(
                        "{}/{}",
                        number(&port["port"]),
                        port["protocol"].as_str().unwrap_or("TCP")
                    )
                })
            }),
        ],
        "EndpointSlice" => vec![
            ("TYPE", |slice| text(&slice["addressType"])),
            ("PORTS", |slice| {
                list(&slice["ports"], |port| number(&port["port"]))
            }),
            ("ENDPOINTS", |slice| {
                list(&slice["endpoints"], |endpoint| {
                    text(&endpoint["addresses"][0])
                })
            }),
        ],
        "Node" => vec![
            ("ADDRESSES", |node| {
                let internal = node["status"]["addresses"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let internal = internal.iter().filter(|it| it["type"] == "InternalIP");
                internal
                    .map(|it| text(&it["address"]))
                    .collect::<Vec<_>>()
                    .join(",")
            }),
            ("PODS", |node| list(&node["spec"]["podCIDRs"], text)),
        ],
        "Namespace" => vec![
            ("STATUS", |object| text(&object["status"]["phase"])),
            ("DATAPLANE-MODE", |object| {
                text(&object["metadata"]["labels"]["istio.io/dataplane-mode"])
            }),
        ],
        "GatewayClass" => vec![
            ("CONTROLLER", |class| text(&class["spec"]["controllerName"])),
            ("ACCEPTED", |class| condition(class, "Accepted")),
        ],
        "Gateway" => vec![
            ("CLASS", |gateway| {
                text(&gateway["spec"]["gatewayClassName"])
            }),
            ("ADDRESS", |gateway| {
                list(&gateway["status"]["addresses"], |it| text(&it["value"]))
            }),
            ("PROGRAMMED", |gateway| condition(gateway, "Programmed")),
        ],
        "HTTPRoute" | "GRPCRoute" | "TLSRoute" | "TCPRoute" => vec![
            ("HOSTNAMES", |route| list(&route["spec"]["hostnames"], text)),
            ("ACCEPTED", |route| condition(route, "Accepted")),
            ("RESOLVED-REFS", |route| condition(route, "ResolvedRefs")),
        ],
        "BackendTLSPolicy" | "XBackendTrafficPolicy" | "ExternalAuthorizer" => {
            vec![("ACCEPTED", |object| condition(object, "Accepted"))]
        }
        "AuthorizationPolicy" => vec![
            ("ACTION", |policy| {
                policy["spec"]["action"].as_str().unwrap_or("ALLOW").into()
            }),
            ("WAYPOINT-ACCEPTED", |policy| {
                condition(policy, "WaypointAccepted")
            }),
            ("ZTUNNEL-ACCEPTED", |policy| {
                qualified(policy, "ZtunnelAccepted")
            }),
        ],
        "RequestAuthentication" => vec![("WAYPOINT-ACCEPTED", |policy| {
            condition(policy, "WaypointAccepted")
        })],
        _ => vec![("AGE", |object| {
            text(&object["metadata"]["creationTimestamp"])
        })],
    }
}

fn pod_ready(pod: &Value) -> String {
    let containers = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = statuses
        .iter()
        .filter(|status| status["ready"] == true)
        .count();
    format!("{ready}/{containers}")
}

fn pod_status(pod: &Value) -> String {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".to_owned();
    }
    let statuses = |list: &str| pod["status"][list].as_array().cloned().unwrap_or_default();
    let mut all = statuses("initContainerStatuses");
    all.extend(statuses("containerStatuses"));
    let waiting = all
        .iter()
        .find_map(|status| status["state"]["waiting"]["reason"].as_str());
    let reason = pod["status"]["reason"].as_str().or(waiting);
    reason.map_or_else(|| text(&pod["status"]["phase"]), str::to_owned)
}

/// How a lab is, for people.
pub(super) fn render_status(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "lab {}: {} of {} pods ready",
        status.name, status.pods.0, status.pods.1
    );
    let mut rows = vec![vec!["NODE".to_owned(), "PODS".to_owned()]];
    rows.extend(
        status
            .nodes
            .iter()
            .map(|(node, pods)| vec![node.clone(), pods.to_string()]),
    );
    let _ = write!(out, "\n{}", align(rows));
    for (node, weather) in &status.weather {
        let _ = writeln!(out, "the network of {node}: {weather}");
    }
    if !status.components.is_empty() {
        let header = ["COMPONENT", "PID", "RESTARTS", "LAST END"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(status.components.iter().map(|component| {
            let pid = component
                .pid
                .map_or_else(|| "down".to_owned(), |pid| pid.to_string());
            let end = component.last_end.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                component.name.clone(),
                pid,
                component.restarts.to_string(),
                end,
            ]
        }));
        let _ = write!(out, "\n{}", align(rows));
        let in_force = status.problems.is_empty();
        let _ = writeln!(
            out,
            "\nconfiguration: {}",
            if in_force { "in force" } else { "NOT in force" }
        );
        for problem in &status.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out
}

/// What a condition says of an object: `False` when it does not hold everywhere.
fn condition(object: &Value, of: &str) -> String {
    let all = conditions(&object["status"]);
    let mut said = all.iter().filter(|it| it["type"] == of);
    let first = said
        .next()
        .map_or("-", |it| it["status"].as_str().unwrap_or("-"));
    let refused = said.find(|it| it["status"] == "False");
    refused.map_or(first, |_| "False").to_owned()
}

/// The same, with the reason where it holds in part.
fn qualified(object: &Value, of: &str) -> String {
    let all = conditions(&object["status"]);
    let said = all.iter().find(|it| it["type"] == of);
    let reason = said.and_then(|it| it["reason"].as_str());
    match (condition(object, of), reason) {
        (status, Some(reason)) if status == "True" && reason != "Accepted" => {
            format!("{status} ({reason})")
        }
        (status, _) => status,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn number(value: &Value) -> String {
    value.as_i64().unwrap_or(0).to_string()
}

fn list(value: &Value, cell: impl Fn(&Value) -> String) -> String {
    let items: Vec<String> = value.as_array().into_iter().flatten().map(cell).collect();
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join(",")
    }
}

fn align(rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}   ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_as_people_know_them() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"containers": [{}, {}], "nodeName": "node-1"},
            "status": {"phase": "Pending", "podIP": "10.244.1.2", "containerStatuses": [
                {"ready": true, "restartCount": 2, "state": {"running": {}}},
                {"ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            ]},
        });
        let expected = "NAMESPACE   NAME   READY   STATUS             RESTARTS   IP           NODE\n\
                        n           a      1/2     CrashLoopBackOff   3          10.244.1.2   node-1\n";
        assert_eq!(render(&[pod], true), expected);
    }

    #[test]
    fn what_holds_in_part_says_so() {
        for (status, reason, wanted) in [
            ("True", "Accepted", "True"),
            ("True", "UnsupportedValue", "True (UnsupportedValue)"),
            ("False", "Invalid", "False"),
        ] {
            let condition = json!({"type": "ZtunnelAccepted", "status": status, "reason": reason});
            let policy = json!({
                "kind": "AuthorizationPolicy",
                "metadata": {"name": "p"},
                "status": {"conditions": [condition]}
            });
            let shown = render(&[policy], false);
            assert!(shown.trim_end().ends_with(wanted), "{shown}");
        }
    }

    #[test]
    fn conditions_of_all_parents() {
        let parent = |status: &str| json!({"conditions": [{"type": "Accepted", "status": status}]});
        let route = |parents: &[&str]| {
            let parents: Vec<_> = parents.iter().map(|it| parent(it)).collect();
            json!({"kind": "HTTPRoute", "metadata": {"name": "r"}, "status": {"parents": parents}})
        };
        for (parents, wanted) in [
            (&["True", "False"][..], "False"),
            (&["False", "True"], "False"),
            (&["True", "True"], "True"),
            (&[], "-"),
        ] {
            let expected = format!(
                "NAME   HOSTNAMES   ACCEPTED   RESOLVED-REFS\nr      -           {wanted:<8}   -\n"
            );
            assert_eq!(render(&[route(parents)], false), expected, "{parents:?}");
        }
    }
}
