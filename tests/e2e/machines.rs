//! A machine without a kubelet in the mesh: it has joined as a WorkloadEntry with a token, captures its own traffic, and is what
//! any pod is: who calls it and whom it calls is known by certificates, and judged.

use std::time::Duration;

use ambit_lab::capture::{self, Tap};
use ambit_lab::harness::{Lab, eventually, program};

use crate::fixtures::{addresses, ambient_shop, client, echo, host, namespace};
use crate::flows::{flow, identity, start, tunnelled};

const PATIENCE: Duration = Duration::from_secs(30);
/// The machine, as the lab names it.
const VM: &str = "machine/vm";
const ADDRESSES: [&str; 2] = ["172.30.0.201", "fd00:172:30::c9"];
const STRANGER: &str = "outside/stranger";
/// Where the lab puts its token.
const TOKEN: &str = "/run/ambit-lab/mesh/machines/vm/token";
/// Where it says which resolver the machine has.
const RESOLVER: &str = "/run/ambit-lab/mesh/machines/vm/resolv.conf";
const STRICT: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: strict, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";

/// A WorkloadEntry of the machine.
fn entry() -> &'static str {
    "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
     metadata: {name: vm, namespace: shop, labels: {app: vm, networking.istio.io/tunnel: http}}\n\
     spec: {address: 172.30.0.201, serviceAccount: vm}\n"
}

/// The shop of two nodes, a stranger outside the mesh, and a machine that has not joined, with the service that it is behind.
fn lab(arguments: &[&str]) -> Lab {
    let service = "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: vm, namespace: shop}\n\
        ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: vm, namespace: shop}\n\
        spec:\n  hosts: [vm.example.com]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
        ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]\n  \
        workloadSelector: {labels: {app: vm}}\n";
    let stranger = namespace("outside", "") + &client("outside", "stranger", "node-1");
    let all = ambient_shop() + &stranger + service + entry();
    start(all, &[&["--machine", "vm"], arguments].concat())
}

fn join(lab: &Lab, arguments: &[&str]) {
    let all = ["join", "vm", "shop/vm"].iter().chain(arguments);
    let _ = lab.run(all).success();
}

/// Whether a GET is answered.
fn passes(lab: &Lab, from: &str, url: &str) -> bool {
    let got = lab.load(from, &["get", "--fail", "--timeout", "5s", url]);
    got.code == 0
}

/// Whether a port of the machine answers, at each of its addresses.
fn answers(lab: &Lab, from: &str, port: u16) -> [bool; 2] {
    ADDRESSES.map(|address| passes(lab, from, &format!("http://{}:{port}/", host(address))))
}

/// A line of the machine's proxy that says this.
fn said(lab: &Lab, what: &str) -> String {
    eventually(what, PATIENCE, || {
        let log = lab.logs("ztunnel/vm");
        let found = log.lines().find(|line| line.contains(what));
        found.map(str::to_owned)
    })
}

fn serial(lab: &Lab) -> Option<String> {
    let url = "http://127.0.0.1:15000/config_dump";
    let dump = lab.load(VM, &["get", "--fail", url]).json();
    let certificates = dump["certificates"].as_array().cloned()?;
    let found = certificates
        .into_iter()
        .find(|it| it["identity"] == identity("shop", "vm"))?;
    let number = found["certChain"][0]["serialNumber"].as_str()?;
    Some(number.to_owned())
}

#[test]
fn pods_and_a_machine_reach_each_other_by_mutual_tls() {
    let lab = lab(&[]);
    assert!(!passes(&lab, VM, "http://echo-1.shop/"), "not its names");
    join(&lab, &[]);
    let secret = "nobody-reads-this";
    let tap = Tap::start(&lab, VM).expect("a tap");
    for number in [1, 2] {
        let pod = format!("client-{number}");
        let url = format!("http://vm.example.com/{secret}");
        let answer = lab.get(&format!("shop/{pod}"), &url);
        assert_eq!(answer["hostname"], "vm");
        let node = format!("node-{number}");
        tunnelled(&lab, "shop", [(&pod, &node), ("vm", "vm")], 8080);
    }
    for name in ["echo-1.shop", "echo-2.shop.svc.cluster.local"] {
        let answer = lab.get(VM, &format!("http://{name}/{secret}"));
        assert_eq!(answer["hostname"], name[..6]);
    }
    for number in [1, 2] {
        let to = (format!("echo-{number}"), format!("node-{number}"));
        tunnelled(&lab, "shop", [("vm", "vm"), (&to.0, &to.1)], 8080);
    }
    // What is of the mesh is of the mesh by its address, and the rest goes as it went.
    let answer = lab.get(VM, "http://127.0.0.1:8080/");
    assert_eq!(answer["hostname"], "vm");
    let frames = tap.stop().expect("frames");
    assert!(capture::frames(&frames).count() > 40, "something was there");
    assert!(!capture::contains(&frames, secret.as_bytes()));
}

#[test]
fn policies_judge_who_calls_a_machine_and_whom_it_calls() {
    let lab = lab(&[]);
    join(&lab, &[]);
    let allow = |name: &str, app: &str, principal: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: shop}}\n\
             spec: {{selector: {{matchLabels: {{{app}}}}}, action: ALLOW, rules: [{{from: [{{source: \
             {{principals: [cluster.local/ns/shop/sa/{principal}]}}}}]}}]}}\n"
        )
    };
    lab.apply(&(allow("to-vm", "app: vm", "client-1") + &allow("from-vm", "name: echo-1", "vm")));
    let to_vm = ["shop/client-1", "shop/client-2"];
    assert_eq!(
        to_vm.map(|from| passes(&lab, from, "http://vm.example.com/")),
        [true, false]
    );
    let to_echo = [VM, "shop/client-1"];
    assert_eq!(
        to_echo.map(|from| passes(&lab, from, "http://echo-1.shop/")),
        [true, false]
    );
    lab.apply(&allow("from-vm", "name: echo-1", "client-1"));
    assert_eq!(
        to_echo.map(|from| passes(&lab, from, "http://echo-1.shop/")),
        [false, true]
    );
}

#[test]
fn plain_text_is_refused_where_strict_says_so_and_ssh_is_left_alone() {
    let lab = lab(&[]);
    assert_eq!(answers(&lab, STRANGER, 8080), [true; 2]);
    join(&lab, &[]);
    assert_eq!(answers(&lab, STRANGER, 8080), [true; 2], "PERMISSIVE");
    lab.apply(STRICT);
    assert_eq!(answers(&lab, STRANGER, 8080), [false; 2], "STRICT");
    assert_eq!(answers(&lab, STRANGER, 22), [true; 2], "ssh");
    // Of the other variables, by joining again.
    join(&lab, &["--env", "AMBIT_EXCLUDE_INBOUND_PORTS=none"]);
    assert_eq!(answers(&lab, STRANGER, 22), [false; 2], "nothing is");
    // Past the mesh the machine goes as anybody's plain text, which the shop does not take.
    assert!(passes(&lab, VM, "http://echo-1.shop/"));
    let ip = addresses(&lab, "shop/echo-1")[0].clone();
    let direct = format!("http://{ip}:8080/");
    assert!(passes(&lab, VM, &direct));
    join(
        &lab,
        &["--env", "AMBIT_EXCLUDE_OUTBOUND_RANGES=10.244.0.0/16"],
    );
    assert!(!passes(&lab, VM, &direct), "left alone");
    // Killed, it lets nothing through that nobody judges; what starts then takes over.
    let _ = lab.run(["kill", "ztunnel/vm"]).success();
    eventually("it is back", PATIENCE, || {
        assert_eq!(answers(&lab, STRANGER, 8080), [false; 2], "killed");
        passes(&lab, "shop/client-1", "http://vm.example.com/").then_some(())
    });
    // In order it takes away what it has captured by.
    let _ = lab.run(["leave", "vm"]).success();
    assert_eq!(answers(&lab, STRANGER, 8080), [true; 2], "released");
    assert!(!passes(&lab, "shop/client-1", "http://vm.example.com/"));
}

#[test]
fn a_certificate_proves_a_machine_as_long_as_its_entry_is_there() {
    let lab = lab(&["--certificate-lifetime", "12s"]);
    join(&lab, &[]);
    let first = serial(&lab).expect("a certificate");
    let removed = lab.exec("node/node-1", &["rm", TOKEN]);
    let _ = removed.success();
    let other = |than: &str| {
        eventually("another certificate", PATIENCE, || {
            serial(&lab).filter(|serial| serial != than)
        })
    };
    let second = other(&first);
    // After a boot the one that was kept proves it.
    let _ = lab.run(["restart", "ztunnel/vm"]).success();
    other(&second);
    assert!(passes(&lab, "shop/client-1", "http://vm.example.com/"));
    assert!(passes(&lab, VM, "http://echo-2.shop/"));

    lab.delete(entry());
    assert!(!passes(&lab, "shop/client-1", "http://vm.example.com/"));
    assert!(!passes(&lab, VM, "http://echo-2.shop/"));
    let _ = said(&lab, "there is no WorkloadEntry shop/vm");
    let advice = "write a new token to /run/ambit-lab/mesh/machines/vm/token \
                  (kubectl create token vm --namespace shop --audience istio-ca, or ambit machine)";
    let what = said(&lab, &format!("seconds ago, and no token: {advice}"));
    assert!(
        what.contains("this machine has a certificate that expired"),
        "{what}"
    );
    // Nothing but a token brings it back.
    lab.apply(entry());
    assert!(!passes(&lab, "shop/client-1", "http://vm.example.com/"));
    join(&lab, &[]);
    eventually("it is back", PATIENCE, || {
        passes(&lab, "shop/client-1", "http://vm.example.com/").then_some(())
    });
}

#[test]
fn a_token_that_does_not_hold_is_said_with_what_to_do() {
    let lab = lab(&[]);
    let advice = "write a new token to /run/ambit-lab/mesh/machines/vm/token";
    join(&lab, &["--token-lifetime=-120", "--no-wait"]);
    let what = said(&lab, "ExpiredSignature");
    assert!(what.contains(advice), "{what}");
    // Nobody knows it, so nothing that it does is let through, and nothing it serves.
    assert_eq!(answers(&lab, STRANGER, 8080), [false; 2]);
    assert!(!passes(&lab, VM, "http://echo-1.shop/"));
    // A token of another account than the one it says it runs as.
    let other = "--env=PROXY_WORKLOAD_INFO=shop/vm/admin";
    join(&lab, &[other, "--no-wait"]);
    let _ = said(
        &lab,
        "a machine has its own identity only, not spiffe://cluster.local/ns/shop/sa/admin",
    );
    let _ = said(
        &lab,
        "PROXY_WORKLOAD_INFO says service account admin, discovery says spiffe://cluster.local/ns/shop/sa/vm",
    );
    let none = "--env=PROXY_WORKLOAD_INFO=shop/none/vm";
    join(&lab, &[none, "--no-wait"]);
    let _ = said(
        &lab,
        "there is no WorkloadEntry shop/none: create it, or let the machine go",
    );
    join(&lab, &["--env=PROXY_WORKLOAD_INFO=shop/vm/vm"]);
    assert!(passes(&lab, "shop/client-1", "http://vm.example.com/"));
}

#[test]
fn hosts_of_entries_are_looked_for_past_the_machine_s_own_capture() {
    let lab = lab(&[]);
    let resolver = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: names, namespace: outside}}\n\
         spec:\n  nodeName: node-1\n  terminationGracePeriodSeconds: 2\n  \
         containers:\n  - {{name: names, command: [{}, names], readinessProbe: {{tcpSocket: {{port: 53}}, periodSeconds: 1}}}}\n",
        program("peer").display()
    );
    lab.apply(&(echo("outside", "plain", "node-2") + &resolver));
    let address = |pod: &str| addresses(&lab, pod)[0].clone();
    // The mesh gives this host an address of its own, and the machine's resolver knows the real one.
    let host = format!("{}.addresses", address("outside/plain").replace('.', "-"));
    lab.apply(&format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: named, namespace: shop}}\n\
         spec:\n  hosts: [{host}]\n  location: MESH_EXTERNAL\n  resolution: DNS\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n"
    ));
    let named = format!("echo nameserver {} > {RESOLVER}", address("outside/names"));
    let _ = lab.exec("node/node-1", &["sh", "-c", &named]).success();
    join(&lab, &[]);
    let answer = lab.get(VM, &format!("http://{host}/"));
    assert_eq!(answer["hostname"], "plain");
    let flow = flow(
        &lab,
        "vm",
        &[("direction", "outbound"), ("dst.service", &host)],
    );
    assert!(flow.text("dst.addr").ends_with(":8080"), "{flow:?}");
}

#[test]
fn a_user_of_a_machine_neither_ends_its_proxy_nor_reads_the_mesh() {
    let lab = lab(&[]);
    join(&lab, &["--env", "AMBIT_CONFIG_DUMP=false"]);
    let status = |method: &str, page: &str| {
        let url = format!("http://127.0.0.1:15000{page}");
        let written = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method];
        let argv = [&["curl"], &written[..], &[&url]].concat();
        lab.exec(VM, &argv).success()
    };
    for (method, page) in [
        ("POST", "/quitquitquit"),
        ("POST", "/logging?level=off"),
        ("GET", "/config_dump"),
    ] {
        assert_eq!(status(method, page).trim(), "404", "{page}");
    }
    assert_eq!(status("GET", "/metrics").trim(), "200");
    assert!(passes(&lab, "shop/client-1", "http://vm.example.com/"));
}

#[test]
fn a_proxy_that_may_not_capture_says_so() {
    let lab = lab(&[]);
    let refused = lab.exec(
        VM,
        &[
            "env",
            "--ignore-environment",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "PROXY_MODE=dedicated",
            "PROXY_WORKLOAD_INFO=shop/vm/vm",
            "setpriv",
            "--bounding-set=-net_admin",
            &program("ztunnel").to_string_lossy(),
        ],
    );
    let said = refused.failure();
    assert!(
        said.contains("needs the capability CAP_NET_ADMIN"),
        "{said}"
    );
}
