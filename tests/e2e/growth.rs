//! A mesh that grows at once: who uses it meanwhile fails no request, and one endpoint that changes costs one message.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ambit_lab::harness::Lab;
use ambit_lab::metrics;

use crate::fixtures::ambient_shop;
use crate::flows::{metric, start};

const SERVICES: u32 = 500;
const ENDPOINTS: u32 = 10;

/// Services with endpoints that nobody dials.
fn services() -> String {
    let mut all = String::new();
    for service in 0..SERVICES {
        let _ = write!(
            all,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: service-{service}, namespace: shop}}\n\
             spec:\n  hosts: [service-{service}.example.com]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n"
        );
        for endpoint in 0..ENDPOINTS {
            let [_, _, high, low] = (service * ENDPOINTS + endpoint).to_be_bytes();
            let _ = writeln!(all, "  - address: 11.0.{high}.{low}");
        }
    }
    all
}

/// An endpoint with a name of its own.
fn machine(address: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
         metadata: {{name: machine, namespace: shop}}\nspec: {{address: {address}, serviceAccount: machine}}\n"
    )
}

/// Messages that each node proxy has had of the control plane, and what was in all of them.
fn told(lab: &Lab) -> [f64; 3] {
    let url = "http://172.30.0.1:15014/metrics";
    let page = lab.load("node/node-1", &["get", "--fail", url]).success();
    let [first, second] =
        ["node-1", "node-2"].map(|node| metric(lab, node, "ambit_xds_pushes_total", &[]));
    let resources = metrics::sum(&page, "ambit_control_pushed_resources_total", &[]);
    [first, second, resources]
}

/// Requests, and those that failed, until it is over.
fn ask(lab: &Lab, how: &[&str], over: &AtomicBool) -> (u64, u64) {
    let fixed = ["http", "http://echo-2/", "--json", "-d", "1s", "-c", "4"];
    let arguments = [&fixed, how].concat();
    let (mut requests, mut errors) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let report = lab.load("shop/client-1", &arguments).json();
        let number = |of: &serde_json::Value| of.as_u64().expect("a number");
        requests += number(&report["requests"]);
        errors += number(&report["errors"]["total"]);
    }
    (requests, errors)
}

#[test]
fn a_mesh_grows_and_shrinks_and_one_endpoint_is_one_message() {
    let lab = start(ambient_shop() + &machine("11.255.0.1"), &[]);
    let over = AtomicBool::new(false);
    let (lab, over) = (&lab, &over);
    let reports = thread::scope(|scope| {
        let ways: [&[&str]; 2] = [&["--rate", "100"], &["--rate", "40", "--new-connections"]];
        let asking = ways.map(|how| scope.spawn(move || ask(lab, how, over)));
        // Whatever fails here, nobody waits for ever.
        let grown = scope.spawn(move || {
            lab.apply(&services());
            for address in ["11.255.0.2", "11.255.0.3"] {
                let before = told(lab);
                lab.apply(&machine(address));
                let after = told(lab);
                let cost = [0, 1, 2].map(|at| after[at] - before[at]);
                assert_eq!(cost, [1.0, 1.0, 2.0], "messages, and what was in them");
            }
            lab.delete(&services());
        });
        let grown = grown.join();
        over.store(true, Ordering::Relaxed);
        let reports = asking.map(|it| it.join().expect("a report"));
        if let Err(panic) = grown {
            std::panic::resume_unwind(panic);
        }
        reports
    });
    for (requests, errors) in reports {
        assert!(requests > 20, "{reports:?}");
        assert_eq!(errors, 0, "{reports:?}");
    }
}
