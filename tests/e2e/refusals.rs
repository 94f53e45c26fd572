//! What a proxy and the certificate authority must refuse, asked by a peer that does not play by
//! the rules: no certificate or a wrong one, an old protocol, a tunnel to where it must not lead.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually, program};

use crate::fixtures::{addresses, client, echo, host, namespace, service, text};
use crate::flows::{flow, flow_that, flows, identity, start};
use crate::thief::{thief, tunnel};

const PATIENCE: Duration = Duration::from_secs(10);

const FRIEND: &str = "spiffe://cluster.local/ns/shop/sa/friend";

/// An echo server on node-2, another one and a friend on node-1, and a pod outside the mesh, whose
/// connections no proxy touches and which stole the authority's key.
fn lab() -> Lab {
    let mut manifests = namespace("shop", "istio.io/dataplane-mode: ambient");
    manifests += &(namespace("outside", "") + &thief());
    manifests += &(echo("shop", "echo", "node-2") + &service("shop", "echo", "name: echo"));
    manifests += &(echo("shop", "near", "node-1") + &service("shop", "near", "name: near"));
    manifests += &client("shop", "friend", "node-1");
    start(manifests, &[])
}

#[test]
fn a_peer_without_a_proper_certificate_is_refused() {
    let lab = lab();
    let other = "spiffe://other.domain/ns/shop/sa/friend";
    let second = identity("shop", "near");
    let cases: [(&str, &[&str], &str); 6] = [
        ("no certificate", &[], "no certificates"),
        (
            "another trust domain",
            &["--identity", other],
            "other.domain",
        ),
        ("expired", &["--identity", FRIEND, "--expired"], "expired"),
        (
            "two identities",
            &["--identity", FRIEND, "--identity", &second],
            "exactly one URI",
        ),
        (
            "another root",
            &["--identity", FRIEND, "--own-root"],
            "UnknownIssuer",
        ),
        (
            "no SPIFFE identity",
            &["--identity", "https://cluster.local/ns/shop/sa/friend"],
            "https://",
        ),
    ];
    for address in addresses(&lab, "shop/echo") {
        let hello = "GET / HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n";
        let good = tunnel(&lab, &address, &["--identity", FRIEND, "--send", hello]);
        assert_eq!(good["status"], 200, "{good}");
        assert_eq!(text(&good["server"]), identity("shop", "echo"));
        assert!(
            text(&good["received"]).starts_with("HTTP/1.1 200"),
            "{good}"
        );
        for (case, arguments, _) in &cases {
            let refused = tunnel(&lab, &address, arguments);
            assert!(
                refused["error"].is_string() && refused["status"].is_null(),
                "{case}: {refused}"
            );
        }
    }
    // Each is refused for its own reason, and nothing of it is taken for an identity.
    let of_handshakes = eventually("a line for each refusal", PATIENCE, || {
        let errors: Vec<String> = flows(&lab, "node-2")
            .iter()
            .filter(|flow| flow.text("error").contains("TLS handshake"))
            .inspect(|flow| assert_eq!(flow.text("src.identity"), "", "{flow:?}"))
            .map(|flow| flow.text("error").to_owned())
            .collect();
        (errors.len() >= 2 * cases.len()).then_some(errors)
    });
    for (case, _, reason) in &cases {
        let count = of_handshakes
            .iter()
            .filter(|error| error.contains(reason))
            .count();
        assert_eq!(count, 2, "{case}: {of_handshakes:?}");
    }
}

#[test]
fn older_tls_and_what_is_no_tls_are_refused() {
    let lab = lab();
    for address in addresses(&lab, "shop/echo") {
        let url = format!("https://{}:15008/", host(&address));
        let argv = [
            "curl",
            "-ksSv",
            "--max-time",
            "10",
            "--tls-max",
            "1.2",
            &url,
        ];
        let said = lab.exec("outside/stranger", &argv).failure();
        assert!(said.contains("alert protocol version"), "{said}");
        let url = format!("http://{}:15008/", host(&address));
        let argv = ["curl", "-sS", "--max-time", "10", &url];
        let _ = lab.exec("outside/stranger", &argv).failure();
    }
    for error in ["SupportedVersionsExtensionRequired", "corrupt message"] {
        let _ = flow_that(&lab, "node-2", error, |flow| {
            flow.text("error").contains(error)
        });
    }
}

#[test]
fn a_tunnel_leads_to_its_own_pod_alone() {
    let lab = lab();
    let near = addresses(&lab, "shop/near");
    for (own, other) in addresses(&lab, "shop/echo").iter().zip(&near) {
        let at = |ip: &str, port: u16| format!("{}:{port}", host(ip));
        let cases = [
            ("another pod", at(other, 8080), 400),
            ("captured outbound", at(own, 15001), 503),
            ("captured inbound", at(own, 15006), 503),
            ("tunnels", at(own, 15008), 503),
            ("nobody listens", at(own, 9), 503),
            ("port 0", at(own, 0), 503),
            (
                "its own service",
                "echo.shop.svc.cluster.local:80".to_owned(),
                200,
            ),
            (
                "another service",
                "near.shop.svc.cluster.local:80".to_owned(),
                400,
            ),
            ("no port", "echo.shop.svc.cluster.local".to_owned(), 400),
            ("loopback", "127.0.0.1:8080".to_owned(), 400),
        ];
        for (case, authority, status) in cases {
            let answer = tunnel(
                &lab,
                own,
                &["--identity", FRIEND, "--authority", &authority],
            );
            assert_eq!(answer["status"], status, "{case}: {answer}");
        }
        for method in ["GET", "POST", "OPTIONS"] {
            let answer = tunnel(&lab, own, &["--identity", FRIEND, "--method", method]);
            assert_eq!(answer["status"], 400, "{method}: {answer}");
        }
        // Neither are these ports reached without a tunnel, from outside or by a pod of the mesh.
        for port in [15001, 15006] {
            for client in ["outside/stranger", "shop/friend"] {
                let url = format!("http://{}/", at(own, port));
                let argv = ["curl", "-sS", "--max-time", "10", &url];
                let _ = lab.exec(client, &argv).failure();
            }
        }
    }
    let asked = format!("{}:8080", host(&near[0]));
    let line = flow(&lab, "node-2", &[("dst.hbone_addr", &asked)]);
    assert!(line.text("error").contains("arrived at"), "{line:?}");
}

#[test]
fn the_authority_signs_for_pods_of_the_asking_node_alone() {
    let lab = lab();
    let folder = "/run/ambit-lab/mesh/node-1";
    let hosts = lab
        .exec("node/node-1", &["cat", &format!("{folder}/hosts")])
        .success();
    let control = hosts
        .lines()
        .find_map(|line| line.split_once(" ambit-control."))
        .map(|(address, _)| format!("https://{address}:15012"))
        .expect("the control plane's address");
    let roots = format!("{folder}/var/run/secrets/istio/root-cert.pem");
    let token = format!("{folder}/var/run/secrets/tokens/istio-token");
    let peer = program("peer").to_string_lossy().into_owned();
    let sign = |identity: &str, token: &str| {
        let argv = [
            &*peer,
            "sign",
            &control,
            "--server-name",
            "istiod.istio-system.svc",
            "--roots",
            &roots,
            "--token",
            token,
            "--identity",
            identity,
        ];
        lab.exec("node/node-1", &argv).json()
    };
    for own in [FRIEND.to_owned(), identity("shop", "near")] {
        assert_eq!(sign(&own, &token)["signed"], own);
    }
    for foreign in [
        identity("shop", "echo"),
        identity("shop", "nobody"),
        identity("kube-system", "friend"),
        "spiffe://other.domain/ns/shop/sa/friend".to_owned(),
    ] {
        let answer = sign(&foreign, &token);
        assert!(
            text(&answer["error"]).contains("PermissionDenied"),
            "{foreign}: {answer}"
        );
    }
    // Neither for anybody without a token of the cluster's issuer.
    let answer = sign(FRIEND, "/proc/sys/kernel/random/boot_id");
    assert!(
        text(&answer["error"]).contains("Unauthenticated"),
        "{answer}"
    );
}
