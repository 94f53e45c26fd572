//! What control says of objects, as `lab get` shows it: every condition with an object that has it and one
//! that has not, and what the author of a bad one is told.

use ambit_lab::harness::Lab;
use serde_json::Value;

use super::scene::{gateway, http_route, lab, manifests, route, service};
use crate::fixtures::{namespace, text};
use crate::flows::start;

mod policies;
mod routes;

/// A condition as `Type=Status/Reason`.
fn conditions(part: &Value) -> Vec<String> {
    let all = part["conditions"].as_array().into_iter().flatten();
    all.map(|it| {
        let text = |field: &str| it[field].as_str().unwrap_or_default();
        assert!(!text("lastTransitionTime").is_empty(), "{it}");
        format!("{}={}/{}", text("type"), text("status"), text("reason"))
    })
    .collect()
}

const GOOD: &[&str] = &["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];

/// An object, the part of its status that is looked at, its conditions, and what its author is told.
struct Case {
    name: &'static str,
    manifest: String,
    object: (&'static str, &'static str),
    part: &'static str,
    wanted: &'static [&'static str],
    said: &'static str,
}

impl Case {
    /// Applies the object alone, looks, and takes it away.
    fn check(&self, lab: &Lab) {
        let Self { name, wanted, .. } = self;
        let output = lab.try_apply(&self.manifest).success();
        let (kind, object) = self.object;
        let status = lab.object(kind, object)["status"].clone();
        let found = conditions(status.pointer(self.part).unwrap_or(&Value::Null));
        assert_eq!(found, *wanted, "{name}: {status:#}");
        let warned: Vec<&str> = output
            .lines()
            .filter(|line| line.starts_with("warning: ") && line.contains(object))
            .collect();
        if self.said.is_empty() {
            assert_eq!(warned, [""; 0], "{name}");
        } else {
            let told = warned.iter().any(|line| line.contains(self.said));
            assert!(told, "{name}: {output}");
        }
        lab.delete(&self.manifest);
    }
}

const ONE: &str = "- backendRefs: [{name: v1, port: 8080}]";

#[test]
fn a_gateway_is_programmed_while_an_instance_is_ready() {
    let lab = lab();
    let status = || lab.object("gateway", "mesh/waypoint")["status"].clone();
    let good = ["Accepted=True/Accepted", "Programmed=True/Programmed"];
    let before = status();
    assert_eq!(conditions(&before), good);
    assert_eq!(
        conditions(&before["listeners"][0]),
        [good[0], good[1], GOOD[1]]
    );
    let address = text(&lab.object("service", "mesh/waypoint")["spec"]["clusterIP"]);
    assert_eq!(before["addresses"][0]["value"], address);
    let table = lab.run(["get", "gateway", "-n", "mesh"]).success();
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(
        row.starts_with("waypoint   ambit-waypoint")
            && row.contains(&address)
            && row.ends_with("True"),
        "{table}"
    );

    let mut deployment = lab.object("deployment", "mesh/waypoint");
    let mut scale = |replicas: i32| {
        deployment["spec"]["replicas"] = replicas.into();
        lab.apply(&deployment.to_string());
        status()
    };
    let without = scale(0);
    let wanted = ["Accepted=True/Accepted", "Programmed=False/Pending"];
    assert_eq!(conditions(&without), wanted);
    let again = scale(1);
    assert_eq!(conditions(&again), good);
    let since = |status: &Value, at: usize| text(&status["conditions"][at]["lastTransitionTime"]);
    assert_eq!(
        since(&again, 0),
        since(&before, 0),
        "it was accepted all the time"
    );
    assert!(since(&again, 1) > since(&before, 1), "{again:#}");

    // GatewayListenerUnsupportedProtocol.
    let odd = gateway("mesh", "odd", "")
        .replace("port: 15008, protocol: HBONE", "port: 80, protocol: HTTP");
    let said = lab.try_apply(&odd).success();
    assert!(said.contains(": Gateway mesh/odd: "), "{said}");
    let listener = lab.object("gateway", "mesh/odd")["status"]["listeners"][0].clone();
    assert_eq!(
        conditions(&listener)[0],
        "Accepted=False/UnsupportedProtocol"
    );
}

/// GatewayObservedGenerationBump, HTTPRouteObservedGenerationBump: and what control says does not come
/// back to it as a change.
#[test]
fn a_status_follows_its_object_and_nothing_else_moves() {
    let lab = lab();
    lab.apply(&http_route("r", "echo", ONE));
    let parent = || lab.object("httproute", "mesh/r")["status"]["parents"][0].clone();
    let observed = |parent: &Value| parent["conditions"][0]["observedGeneration"].as_i64();
    let first = parent();
    assert_eq!(observed(&first), Some(1));
    let changed = http_route("r", "echo", &ONE.replace("v1", "v2"));
    lab.apply(&changed);
    let second = parent();
    assert_eq!(observed(&second), Some(2));
    assert_eq!(
        first["conditions"][0]["lastTransitionTime"],
        second["conditions"][0]["lastTransitionTime"]
    );
    assert_eq!(second["parentRef"]["name"], "echo");
    assert_eq!(second["controllerName"], "ambit.dev/waypoint-controller");
    // What is applied again changes nothing, and with it nothing changes in control.
    let changes = || lab.logs("control").matches("configuration changed").count();
    let before = changes();
    let said = lab.try_apply(&changed).success();
    assert!(said.contains("HTTPRoute mesh/r unchanged"), "{said}");
    let quiet = namespace("quiet", "");
    lab.apply(&quiet);
    assert_eq!(changes(), before);
    // Another control plane says the same, and nobody notices.
    let known = lab.object("httproute", "mesh/r")["status"].clone();
    let _ = lab.run(["restart", "control"]).success();
    lab.apply(&namespace("after", ""));
    assert_eq!(lab.object("httproute", "mesh/r")["status"], known);
    // A status goes with its object.
    lab.delete(&changed);
    let bad = route("HTTPRoute", "mesh", "r", "name: nobody", ONE);
    let _ = lab.try_apply(&bad).success();
    assert_eq!(conditions(&parent())[0], "Accepted=False/NoMatchingParent");
    assert_eq!(observed(&parent()), Some(1));
}

/// A lab with an object that is not in force comes up, and says so as a cluster does.
#[test]
fn a_bad_route_keeps_nobody_from_starting() {
    let lost = route("HTTPRoute", "mesh", "r", "name: nobody", ONE);
    let lab = start(manifests() + &lost, &[]);
    let parent = lab.object("httproute", "mesh/r")["status"]["parents"][0].clone();
    assert_eq!(conditions(&parent)[0], "Accepted=False/NoMatchingParent");
    let table = lab.run(["get", "httproutes", "-n", "mesh"]).success();
    let row: Vec<&str> = table
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(row, ["r", "-", "False", "True"], "{table}");
    // What it waited for comes.
    lab.apply(&service("mesh", "nobody", "version: v1"));
    let parent = lab.object("httproute", "mesh/r")["status"]["parents"][0].clone();
    assert_eq!(conditions(&parent), GOOD);
}
