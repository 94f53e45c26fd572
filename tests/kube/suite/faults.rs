//! An API server that fails, and one that cannot be reached by everybody.

use ambit_lab::harness::eventually;
use serde_json::json;

use crate::interposer::{Change, Spoilt};
use crate::plane::{ControlPlane, PATIENCE};
use crate::replica::{Proxy, Replica, holder};

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn route(name: &str, backend: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: web}}]\n  \
         rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]\n"
    )
}

fn plane() -> ControlPlane {
    let plane = ControlPlane::start();
    plane.define();
    for name in ["ambit-system", "shop"] {
        let _ = plane.kubectl(&["create", "ns", name]).success();
    }
    plane.apply(&(service("web") + &route("good", "web")));
    plane
}

/// Waits until a replica knows `count` Services.
fn knows(replica: &mut Replica, what: &str, count: u64) {
    eventually(&format!("{what}: {count} services"), PATIENCE, || {
        replica.runs();
        (replica.count("Service") == count).then_some(())
    });
}

#[test]
fn an_api_server_that_fails_is_outlived_and_nothing_is_lost() {
    let plane = plane();
    let mut replica = Replica::start(&plane, "one");
    let before = replica.count("Service");

    // What changes while it fails is known afterwards, whatever is deleted too.
    let expired = ("&resourceVersion=", 410, 12);
    let faults: [&[(&'static str, u16, usize)]; 5] = [
        &[expired],
        &[("watch=true", 429, 6)],
        &[("watch=true", 500, 12)],
        // Nor are streamed lists known.
        &[expired, ("sendInitialEvents", 422, 12)],
        &[("/services", 503, 4)],
    ];
    for (at, refusals) in faults.into_iter().enumerate() {
        let case = format!("{refusals:?}");
        for (what, status, times) in refusals {
            replica.way.refuse(what, *status, *times);
        }
        replica.way.cut();
        let name = format!("new-{at}");
        plane.apply(&service(&name));
        knows(&mut replica, &case, before + 1);
        replica.way.cut();
        let _ = plane
            .kubectl(&["delete", "-n", "shop", "service", &name])
            .success();
        knows(&mut replica, &case, before);
        let left = replica.way.relent();
        for (refusal, left) in refusals.iter().zip(left) {
            assert!(left < refusal.2, "{case}: {refusal:?} was never said");
        }
    }

    odd_objects(&plane, &mut replica);
}

fn odd_objects(plane: &ControlPlane, replica: &mut Replica) {
    // A field that nobody knows is nothing wrong in an object of Kubernetes' own ...
    replica.way.spoil(Some(Spoilt {
        plural: "services",
        name: "coloured",
        with: |object| object["spec"]["colour"] = json!("red"),
    }));
    let before = replica.count("Service");
    plane.apply(&service("coloured"));
    knows(replica, "an unknown field", before + 1);
    let wrong = |replica: &Replica| replica.dump()["errors"].clone();
    let said = wrong(replica).to_string();
    assert!(
        !said.contains("coloured"),
        "an unknown field of a Service: {said}"
    );
    // ... but may turn a route into another one. A type that is wrong never passes.
    let spoils: [(Change, &str); 3] = [
        (
            |object| object["spec"]["rules"] = json!("seven"),
            "spec.rules",
        ),
        (|object| object["spec"]["unheard"] = json!(1), "unheard"),
        (
            |object| object["spec"] = json!("seven"),
            "spec: invalid type",
        ),
    ];
    plane.apply(&route("odd", "web"));
    eventually("the route to be known", PATIENCE, || {
        replica.runs();
        (replica.count("HTTPRoute") == 2).then_some(())
    });
    for (with, field) in spoils {
        replica.way.spoil(Some(Spoilt {
            plural: "httproutes",
            name: "odd",
            with,
        }));
        // The version has to be another one to be looked at again.
        let annotation = format!("test={field}");
        let annotate = [
            "annotate",
            "--overwrite",
            "-n",
            "shop",
            "httproute/odd",
            &annotation,
        ];
        let _ = plane.kubectl(&annotate).success();
        let said = eventually(&format!("{field} is named"), PATIENCE, || {
            replica.runs();
            let problems = wrong(replica);
            let said = problems.as_array()?.iter().find(|it| {
                it["object"] == "HTTPRoute shop/odd"
                    && it["error"]
                        .as_str()
                        .is_some_and(|error| error.contains(field))
            });
            said.cloned()
        });
        eprintln!("{said}");
        // Its neighbours are not hurt, nor is what was known of it.
        assert_eq!(replica.count("HTTPRoute"), 2, "{field}");
    }
    replica.way.spoil(None);
    let annotate = ["annotate", "-n", "shop", "httproute/odd", "test-"];
    let _ = plane.kubectl(&annotate).success();
    eventually("nothing is wrong any more", PATIENCE, || {
        (!wrong(replica).to_string().contains("shop/odd")).then_some(())
    });
}

/// What a node proxy of `node-1` shows, and what runs on two nodes.
fn accounts(plane: &ControlPlane) -> (String, String) {
    let pod = |namespace: &str, name: &str, account: &str, node: &str| {
        format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: {namespace}}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{serviceAccountName: {account}, nodeName: {node}, containers: [{{name: c, image: none}}]}}\n"
        )
    };
    let nodes = ["node-1", "node-2"]
        .map(|name| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"));
    let pods = pod("ambit-system", "ztunnel-1", "ztunnel", "node-1")
        + &pod("shop", "here", "near", "node-1")
        + &pod("shop", "there", "far", "node-2");
    plane.apply(&(nodes.concat() + &pods));
    // A pod has an identity once it has an address.
    for (pod, ip) in [("here", "10.244.1.9"), ("there", "10.244.2.9")] {
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let patch = status.to_string();
        let arguments = [
            "patch",
            "-n",
            "shop",
            "pod",
            pod,
            "--subresource=status",
            "-p",
            &patch,
        ];
        let _ = plane.kubectl(&arguments).success();
    }
    let _ = plane
        .kubectl(&["label", "ns", "shop", "istio.io/dataplane-mode=ambient"])
        .success();
    plane.proxy_credentials("ztunnel-1")
}

#[test]
fn two_replicas_of_which_one_is_cut_off() {
    let plane = plane();
    let mut replicas = [Replica::start(&plane, "one"), Replica::start(&plane, "two")];
    let first = holder(&plane, "");
    let (token, roots) = accounts(&plane);
    let proxies = replicas
        .each_ref()
        .map(|replica| Proxy::subscribe(replica, &roots, &token));
    let at = replicas.iter().position(|it| it.name == first);
    let (cut, other) = if at == Some(0) { (0, 1) } else { (1, 0) };
    for (proxy, replica) in proxies.iter().zip(&replicas) {
        eventually("a certificate for a pod of the node", PATIENCE, || {
            proxy.certificate("shop", "near").ok()
        });
        let refused = proxy
            .certificate("shop", "far")
            .expect_err("it runs elsewhere");
        eprintln!("{}: {refused}", replica.name);
    }

    replicas[cut].way.cut_off(true);
    let second = holder(&plane, &first);
    assert_eq!(second, replicas[other].name);
    replicas[other].way.forget();
    plane.apply(&(service("meanwhile") + &route("meanwhile", "web")));
    let status = |route: &str| {
        let found = plane.object("httproute", "shop", route)?;
        let parents = found["status"]["parents"].as_array()?.len();
        (parents == 1).then_some(())
    };
    eventually("the other one writes", PATIENCE, || status("meanwhile"));
    eventually("the other one pushes", PATIENCE, || {
        proxies[other]
            .knows("/meanwhile.shop.svc.cluster.local")
            .then_some(())
    });
    // Whoever is cut off serves what it knows.
    assert!(proxies[cut].is_connected(), "its stream is up");
    assert!(proxies[cut].knows("/web.shop.svc.cluster.local"));
    assert!(!proxies[cut].knows("/meanwhile.shop.svc.cluster.local"));
    let refused = proxies[cut].certificate("shop", "far");
    refused.expect_err("no certificate for a wrong node, cut off or not");

    replicas[cut].way.forget();
    replicas[cut].way.cut_off(false);
    eventually("it catches up", PATIENCE, || {
        proxies[cut]
            .knows("/meanwhile.shop.svc.cluster.local")
            .then_some(())
    });
    plane.apply(&(service("after") + &route("after", "web")));
    eventually("the writer writes", PATIENCE, || status("after"));
    for proxy in &proxies {
        eventually("both push", PATIENCE, || {
            proxy.knows("/after.shop.svc.cluster.local").then_some(())
        });
    }
    assert_eq!(holder(&plane, ""), second);
    let none: [String; 0] = [];
    assert_eq!(replicas[cut].way.seen("PATCH "), none, "one writes");
    assert!(!replicas[other].way.seen("PATCH ").is_empty());
    for replica in &mut replicas {
        replica.runs();
    }
}
