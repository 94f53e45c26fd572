//! A certificate is revoked while its holder talks: it is cut off and refused, others go on.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};
use ambit_net::revocation;
use rcgen::{Issuer, KeyPair, SerialNumber};
use serde_json::json;
use x509_parser::num_bigint::BigUint;

use crate::fixtures::{AMBIENT, client, echo, namespace, service};
use crate::flows::{identity, metric, start};

const PATIENCE: Duration = Duration::from_secs(60);
const REFUSED: &str = "shop/revoked";
const OTHER: &str = "shop/other";

/// Two clients on node-1, and a server on node-2.
fn manifests(labels: &str) -> String {
    let mut all = namespace("shop", labels);
    all += &(echo("shop", "echo", "node-2") + &service("shop", "echo", "name: echo"));
    for name in ["revoked", "other"] {
        all += &client("shop", name, "node-1");
    }
    all
}

/// The serial number of the certificate that the proxy of node-1 has for a pod.
fn serial(lab: &Lab, pod: &str) -> String {
    let url = "http://127.0.0.1:15000/config_dump";
    let name = pod.trim_start_matches("shop/");
    eventually("a certificate", PATIENCE, || {
        let dump = lab.load("node/node-1", &["get", "--fail", url]).json();
        let certificates = dump["certificates"].as_array().cloned()?;
        let own = identity("shop", name);
        let found = certificates.into_iter().find(|it| it["identity"] == own)?;
        Some(found["certChain"][0]["serialNumber"].as_str()?.to_owned())
    })
}

/// What the mesh's authority says of these serial numbers, PEM.
fn list(lab: &Lab, serials: &[&str]) -> String {
    let read = |name: &str| {
        let path = format!("/run/ambit-lab/mesh/ca/{name}");
        lab.exec("node/node-1", &["cat", &path]).success()
    };
    let key = KeyPair::from_pem(&read("ca-key.pem")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca-cert.pem"), key).expect("an issuer");
    let numbers = serials.iter().map(|decimal| {
        let number = BigUint::parse_bytes(decimal.as_bytes(), 10).expect("a number");
        SerialNumber::from(number.to_bytes_be())
    });
    revocation::testing::list(&issuer, numbers, |_| {})
}

fn put(file: &Path, content: &str) {
    let draft = file.with_extension("new");
    fs::write(&draft, content).expect("written");
    fs::rename(draft, file).expect("in place");
}

fn answered(lab: &Lab, from: &str) -> bool {
    let url = "http://echo/";
    lab.load(from, &["get", "--fail", url]).code == 0
}

fn until(lab: &Lab, what: &str, from: &str, good: bool) {
    eventually(what, PATIENCE, || {
        (answered(lab, from) == good).then_some(())
    });
}

#[test]
fn who_is_on_a_list_is_cut_off_and_refused_and_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca-crl.pem");
    let variable = format!("CRL_PATH={}", file.display());
    let lab = start(manifests(AMBIENT), &["--ztunnel-env", &variable]);
    until(&lab, "an answer", REFUSED, true);
    let revoked = serial(&lab, REFUSED);
    let say = |of: &str| {
        let log = lab.logs("ztunnel/node-2");
        log.lines().any(|line| line.contains(of))
    };

    let opened = || {
        let labels = [("reporter", "destination"), ("source_workload", "revoked")];
        metric(
            &lab,
            "node-2",
            "istio_tcp_connections_opened_total",
            &labels,
        )
    };
    let before = opened();
    let reports = thread::scope(|scope| {
        let held: &[&str] = &["websocket", "http://echo/", "--rate", "20"];
        let new: &[&str] = &["http", "http://echo/", "--rate", "20", "--new-connections"];
        let loads = [(REFUSED, held), (OTHER, held), (OTHER, new)];
        let running = loads.map(|(from, arguments)| {
            let lab = &lab;
            let arguments: Vec<&str> = arguments
                .iter()
                .copied()
                .chain(["-d", "20s", "--json"])
                .collect();
            scope.spawn(move || lab.load(from, &arguments))
        });
        eventually("the connection that will be cut", PATIENCE, || {
            (opened() > before).then_some(())
        });
        put(&file, &list(&lab, &[&revoked]));
        until(&lab, "who is revoked to be refused", REFUSED, false);
        running.map(|thread| thread.join().expect("a report"))
    });
    let [cut, others @ ..] = reports;
    let errors = |ran: &ambit_lab::harness::Ran| {
        let report: Option<serde_json::Value> = serde_json::from_str(&ran.stdout).ok();
        report.and_then(|it| it["errors"]["total"].as_u64())
    };
    assert!(errors(&cut) > Some(0), "the connection of before: {cut}");
    for ran in &others {
        assert_eq!(errors(ran), Some(0), "{ran}");
    }
    assert!(!answered(&lab, REFUSED), "and it stays so");
    let name = "ambit_peer_handshakes_failed_total";
    assert!(metric(&lab, "node-2", name, &[("reason", "revoked")]) > 0.0);
    assert!(say(&format!("certificate {revoked} of")), "who it was");

    put(&file, "nonsense");
    let kept = "kept the certificate revocation lists as they were";
    eventually("word of what is wrong", PATIENCE, || {
        say(kept).then_some(())
    });
    assert!(!answered(&lab, REFUSED), "the last good list stays");
    put(&file, &list(&lab, &[]));
    until(
        &lab,
        "who is on the list no longer to be let in",
        REFUSED,
        true,
    );
    assert!(answered(&lab, OTHER));
}

/// What is put beside the authority's key goes to node proxies and, in ConfigMaps, to namespaces.
#[test]
fn what_the_authority_revokes_is_published() {
    const CA: &str = "/run/ambit-lab/mesh/ca/ca-crl.pem";
    let folder = tempfile::tempdir().expect("a folder");
    let lab = start(manifests(AMBIENT), &[]);
    let say = |text: &str| {
        let file = folder.path().join("ca-crl.pem");
        put(&file, text);
        let file = file.to_string_lossy();
        let _ = lab.exec("node/node-1", &["cp", &file, CA]).success();
    };
    let published = || {
        let maps = lab.objects("configmap", "shop");
        let mut named = maps.into_iter();
        let map = named.find(|it| it["metadata"]["name"] == "istio-ca-crl")?;
        map["data"]["ca-crl.pem"].as_str().map(str::to_owned)
    };
    until(&lab, "an answer", REFUSED, true);
    assert_eq!(published(), None, "nothing is said of lists");
    let list = list(&lab, &[&serial(&lab, REFUSED)]);
    say(&list);
    until(&lab, "who is revoked to be refused", REFUSED, false);
    assert!(answered(&lab, OTHER));
    eventually("the list in a namespace", PATIENCE, || {
        (published()?.trim() == list.trim()).then_some(())
    });

    say("nonsense");
    let wrong = "/run/ambit-lab/mesh/ca: ca-crl.pem: ";
    eventually("word of what is wrong", PATIENCE, || {
        lab.logs("control").contains(wrong).then_some(())
    });
    assert!(!answered(&lab, REFUSED), "the last good list stays");
    say("");
    let empty = "/run/ambit-lab/mesh/ca/ca-crl.pem: it is empty";
    eventually("word of an empty file", PATIENCE, || {
        lab.logs("control").contains(empty).then_some(())
    });
    assert!(
        !answered(&lab, REFUSED),
        "a file that is being copied takes nothing back"
    );
    say("\n");
    until(&lab, "who is on no list to be let in", REFUSED, true);
    assert_eq!(published().as_deref().map(str::trim), Some(""));
}

/// The ConfigMap that the control plane publishes on a cluster.
#[test]
fn a_waypoint_has_its_lists_from_a_config_map() {
    let bound = format!("{AMBIENT}, istio.io/use-waypoint: waypoint");
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
        metadata: {name: waypoint, namespace: shop}\n\
        spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";
    let lab = start(manifests(&bound) + gateway, &[]);
    until(&lab, "an answer", REFUSED, true);
    let publish = |serials: &[&str]| {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio-ca-crl", "namespace": "shop"},
            "data": {"ca-crl.pem": list(&lab, serials)},
        });
        lab.apply(&format!("---\n{map}\n"));
    };
    let revoked = serial(&lab, REFUSED);
    publish(&[&revoked]);
    until(&lab, "who is revoked to be refused", REFUSED, false);
    assert!(answered(&lab, OTHER));
    let log = lab.logs("shop/waypoint/waypoint");
    assert!(log.contains(&format!("certificate {revoked} of")), "{log}");
    publish(&[]);
    until(
        &lab,
        "who is on the list no longer to be let in",
        REFUSED,
        true,
    );
}
