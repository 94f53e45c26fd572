//! The control plane as its users meet it: the built program, YAML in a folder, TLS and tokens.

mod program;

use std::path::Path;

use ambit_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use program::{Control, Proxy, command, csr};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::Code;

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: node-1, serviceAccountName: web, containers: [{name: c}]}
status: {phase: Running, podIP: 10.244.1.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db}}
spec: {nodeName: node-2, serviceAccountName: db, containers: [{name: c}]}
status: {phase: Running, podIP: 10.244.2.2, conditions: [{type: Ready, status: 'True'}]}
";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const DB: &str = "spiffe://cluster.local/ns/shop/sa/db";
const ZTUNNEL: &str = "ambit-system/ztunnel";

fn policy(action: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{action: {action}, selector: {{matchLabels: {{app: web}}}}, rules: [{{}}]}}\n"
    )
}

/// A proxy that holds the state of `MESH`.
async fn proxy(control: &Control, name: &str) -> Proxy {
    let token = control.token(ZTUNNEL, Some("node-1"));
    let mut proxy = Proxy::connect(control, name, Some(&token))
        .await
        .expect("let in");
    proxy.subscribe(ADDRESS_TYPE, &[]).await;
    let response = proxy.accept().await;
    assert_eq!(
        names(&response),
        [
            "Kubernetes//Pod/shop/db-1",
            "Kubernetes//Pod/shop/web-1",
            "shop/web.shop.svc.cluster.local"
        ]
    );
    proxy.subscribe(AUTHORIZATION_TYPE, &[]).await;
    assert_eq!(names(&proxy.accept().await), [""; 0]);
    proxy
}

fn names(response: &ambit_proto::xds::DeltaDiscoveryResponse) -> Vec<String> {
    let mut names: Vec<_> = response.resources.iter().map(|r| r.name.clone()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_every_proxy_and_sync_waits_for_it() {
    let control = Control::start(MESH).await;
    let mut first = proxy(&control, "ztunnel-1").await;
    let mut second = proxy(&control, "ztunnel-2").await;
    let (status, report) = control.sync().await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(report["objects"], 4);
    assert_eq!(report["proxies"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["proxies"][0]["acked"], true);
    let before = report["generation"].as_u64();

    control.write("policy.yaml", &policy("DENY"));
    let (_, report) = control.admin("POST", "/sync?timeout=0").await;
    assert!(report["generation"].as_u64() > before, "{report}");
    assert_eq!(report["proxies"][0]["acked"], false);
    for proxy in [&mut first, &mut second] {
        let policies = proxy.accept().await;
        assert_eq!(
            policies.type_url, AUTHORIZATION_TYPE,
            "before what refers to it"
        );
        assert_eq!(names(&policies), ["shop/p"]);
        let workloads = proxy.accept().await;
        assert_eq!(
            names(&workloads),
            ["Kubernetes//Pod/shop/web-1"],
            "and nothing else"
        );
    }
    let (status, report) = control.sync().await;
    assert_eq!(status, 200, "{report}");

    // Found by the watch alone.
    control.remove("policy.yaml");
    for proxy in [&mut first, &mut second] {
        assert_eq!(names(&proxy.accept().await), ["Kubernetes//Pod/shop/web-1"]);
        assert_eq!(proxy.accept().await.removed_resources, ["shop/p"]);
    }
    assert_eq!(control.sync().await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_proxy_is_a_timeout_and_a_gone_one_is_not_waited_for() {
    let control = Control::start(MESH).await;
    let mut silent = proxy(&control, "ztunnel-1").await;
    control.write("policy.yaml", &policy("ALLOW"));
    let (status, report) = control.admin("POST", "/sync?timeout=0.2").await;
    assert_eq!(status, 504, "{report}");
    assert_eq!(report["proxies"][0]["acked"], false);
    let response = silent.next().await;
    let sync = control.sync();
    let end = async {
        drop(silent);
    };
    let ((status, report), ()) = tokio::join!(sync, end);
    assert_eq!(status, 200, "{report}");
    assert_eq!(report["proxies"], serde_json::json!([]));
    assert_eq!(names(&response), ["shop/p"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_proxies_are_reported_until_they_are_resolved() {
    let control = Control::start(MESH).await;
    let mut proxy = proxy(&control, "ztunnel-1").await;
    control.write("policy.yaml", &policy("DENY"));
    let response = proxy.next().await;
    proxy.answer(&response, Some("shop/p: no")).await;
    proxy.accept().await;
    let (status, report) = control.sync().await;
    assert_eq!(status, 409, "{report}");
    let nack = &report["proxies"][0]["nacks"][0];
    assert_eq!(nack["type"], "authorization");
    assert_eq!(nack["message"], "shop/p: no");
    assert_eq!(nack["resources"][0], "shop/p");
    let (_, connections) = control.admin("GET", "/debug/connections").await;
    assert_eq!(
        connections[0]["types"]["authorization"]["last_nack"],
        "shop/p: no"
    );
    assert_eq!(connections[0]["account"], ZTUNNEL);

    control.write("policy.yaml", &policy("ALLOW"));
    assert_eq!(names(&proxy.accept().await), ["shop/p"]);
    let (status, report) = control.sync().await;
    assert_eq!(status, 200, "{report}");
    let (_, metrics) = control.admin_text("GET", "/metrics").await;
    let line = "ambit_control_nacks_total{type=\"authorization\"} 1";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_objects_are_reported_and_the_last_good_ones_stay() {
    let control = Control::start(MESH).await;
    let _proxy = proxy(&control, "ztunnel-1").await;
    control.write("mesh.yaml", &MESH.replacen("kind: Service", "kind: [", 1));
    let (status, report) = control.sync().await;
    assert_eq!(status, 409, "{report}");
    assert_eq!(report["objects"], 4, "the service stays");
    let error = &report["errors"][0];
    assert_eq!(
        (&error["file"], &error["document"]),
        (&"mesh.yaml".into(), &2.into())
    );
    assert!(
        (6..=10).contains(&error["line"].as_u64().unwrap_or_default()),
        "{error}"
    );
    assert_eq!(
        report["proxies"][0]["acked"], true,
        "nothing changed for proxies"
    );

    control.write("mesh.yaml", MESH);
    control.write(
        "bad.yaml",
        &policy("DENY").replace(
            "rules: [{}]",
            "rules: [{to: [{operation: {ports: [http]}}]}]",
        ),
    );
    let (_, report) = control.admin("POST", "/sync?timeout=0").await;
    let error = &report["errors"][0];
    assert_eq!(error["object"], "AuthorizationPolicy shop/p");
    assert_eq!(error["file"], "bad.yaml");
    let (status, dump) = control.admin("GET", "/debug/config_dump").await;
    assert_eq!(status, 200);
    assert_eq!(
        dump["policies"][0]["rules"],
        serde_json::json!([{"clauses": []}]),
        "it denies"
    );

    control.write("bad.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: UDPRoute\nmetadata: {name: g, namespace: shop}\n");
    let (_, report) = control.admin("POST", "/sync?timeout=0").await;
    assert_eq!(report["errors"], serde_json::json!([]));
    assert_eq!(report["notices"][0]["object"], "UDPRoute shop/g");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returning_proxy_is_told_the_difference() {
    let control = Control::start(MESH).await;
    let token = control.token(ZTUNNEL, Some("node-1"));
    let mut proxy = Proxy::connect(&control, "ztunnel-1", Some(&token))
        .await
        .expect("let in");
    proxy.subscribe(ADDRESS_TYPE, &[]).await;
    let all = proxy.accept().await.resources;
    drop(proxy);
    control.write("mesh.yaml", &MESH.replacen("'True'", "'False'", 1));
    control.sync().await;
    let mut held: Vec<_> = all
        .iter()
        .map(|r| (r.name.as_str(), r.version.as_str()))
        .collect();
    held.push(("Kubernetes//Pod/shop/gone", "1"));
    let mut proxy = Proxy::connect(&control, "ztunnel-1", Some(&token))
        .await
        .expect("let in");
    proxy.subscribe(ADDRESS_TYPE, &held).await;
    let response = proxy.accept().await;
    assert_eq!(names(&response), ["Kubernetes//Pod/shop/web-1"]);
    assert_eq!(response.removed_resources, ["Kubernetes//Pod/shop/gone"]);
}

/// It serves with the certificate that it is given, and says where certificates are to be had.
#[tokio::test(flavor = "multi_thread")]
async fn another_authority_signs() {
    let dir = tempfile::tempdir().expect("a folder");
    issue(&dir.path().join("ca"), &dir.path().join("tls"));
    let tls = format!("--tls-dir={}", dir.path().join("tls").display());
    let address = "--ca-address=https://authority.test:443";
    let control = Control::start_in(dir, MESH, &[address, &tls]).await;
    let node = control.token(ZTUNNEL, Some("node-1"));
    let refused = control.certificate(Some(&node), &csr(), Some(WEB), 0).await;
    let status = refused.expect_err("another signs");
    assert_eq!(status.code(), Code::Unimplemented);
    let said = "certificates are signed by https://authority.test:443: set CA_ADDRESS to it";
    assert_eq!(status.message(), said);
    let mut proxy = Proxy::connect(&control, "node-1", Some(&node))
        .await
        .expect("let in");
    proxy.subscribe(ADDRESS_TYPE, &[]).await;
    assert!(!proxy.accept().await.resources.is_empty());
}

/// A root in `ca`, and in `tls` a server's certificate of it.
fn issue(ca: &Path, tls: &Path) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("a root");
    let issuer = Issuer::new(params, key);
    let server = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&server, &issuer).expect("signed");
    for (folder, name, text) in [
        (ca, "root-cert.pem", root.pem()),
        (tls, "tls.crt", certificate.pem()),
        (tls, "tls.key", server.serialize_pem()),
    ] {
        std::fs::create_dir_all(folder).expect("created");
        std::fs::write(folder.join(name), text).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_for_those_who_may_have_them() {
    let control = Control::start(MESH).await;
    let node = control.token(ZTUNNEL, Some("node-1"));
    let web = control.token("shop/web", None);
    let answer = control
        .certificate(Some(&node), &csr(), Some(WEB), 3600)
        .await
        .expect("signed");
    assert_eq!(answer.cert_chain.len(), 2);
    let root = std::fs::read_to_string(control.dir.path().join("ca/root-cert.pem"));
    assert_eq!(answer.cert_chain.last(), root.ok().as_ref());
    control
        .certificate(Some(&web), &csr(), None, 0)
        .await
        .expect("its own");
    control
        .certificate(Some(&web), &csr(), Some(WEB), 0)
        .await
        .expect("its own by name");

    let csr = csr();
    let forged = "a.b.c";
    let cases = [
        ("no token", None, &*csr, None, 0, Code::Unauthenticated),
        (
            "no good token",
            Some(forged),
            &csr,
            None,
            0,
            Code::Unauthenticated,
        ),
        (
            "on another node",
            Some(&*node),
            &csr,
            Some(DB),
            0,
            Code::PermissionDenied,
        ),
        (
            "not a node",
            Some(&*web),
            &csr,
            Some(DB),
            0,
            Code::PermissionDenied,
        ),
        (
            "not an identity",
            Some(&*node),
            &csr,
            Some("web"),
            0,
            Code::InvalidArgument,
        ),
        (
            "not a CSR",
            Some(&*web),
            "x",
            None,
            0,
            Code::InvalidArgument,
        ),
        (
            "negative lifetime",
            Some(&*web),
            &csr,
            None,
            -1,
            Code::InvalidArgument,
        ),
    ];
    for (name, token, csr, identity, seconds, code) in cases {
        let result = control.certificate(token, csr, identity, seconds).await;
        let status = result.expect_err(name);
        assert_eq!(status.code(), code, "{name}: {status}");
        assert!(!status.message().is_empty(), "{name}");
    }
    let log = control.log_with("certificate refused").await;
    assert!(
        !log.contains(&node) && !log.contains(&web),
        "no token in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_told_what_the_mesh_is_for_as_long_as_it_is_of_it() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
        metadata: {name: vm, namespace: shop}\nspec: {address: 192.0.2.7, serviceAccount: vm}\n";
    let control = Control::start(MESH).await;
    let connected = async |seconds| {
        control.write("vm.yaml", entry);
        assert_eq!(control.sync().await.0, 200);
        let channel = control.machine("shop/vm", "vm", seconds).await;
        let machine = Proxy::over(channel, "vm", None).await;
        let mut machine = machine.expect("let in");
        machine.subscribe(ADDRESS_TYPE, &[]).await;
        assert!(!machine.accept().await.resources.is_empty());
        machine
    };
    let mut machine = connected(3600).await;
    control.remove("vm.yaml");
    let status = machine.end().await.expect("an end");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let said = "there is no WorkloadEntry shop/vm: create it, or let the machine go";
    assert_eq!(status.message(), said);
    let mut machine = connected(6).await;
    let status = machine.end().await.expect("an end");
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("expired"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn xds_needs_a_token() {
    let control = Control::start(MESH).await;
    for token in [None, Some("a.b.c")] {
        let result = Proxy::connect(&control, "ztunnel-1", token).await;
        let status = result.err().expect("refused");
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_answers_operators() {
    let control = Control::start(MESH).await;
    assert_eq!(control.admin_text("GET", "/healthz/ready").await.0, 200);
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/sync", 405),
        ("POST", "/sync?timeout=x", 400),
        ("POST", "/sync?timeout=-1", 400),
    ] {
        assert_eq!(
            control.admin_text(method, path).await.0,
            status,
            "{method} {path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_and_the_program() {
    let mut control = Control::start(MESH).await;
    let mut proxy = proxy(&control, "ztunnel-1").await;
    let status = tokio::task::block_in_place(|| control.terminate());
    assert!(status.success(), "{status}");
    let end = proxy.end().await;
    assert_eq!(end.map(|status| status.code()), Some(Code::Unavailable));
}

#[test]
fn a_bare_ambit_prints_help_and_mistakes_are_told_at_once() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_ambit"))
        .output()
        .expect("run");
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("control"));

    let dir = tempfile::tempdir().expect("a folder");
    let mistakes = command(dir.path())
        .arg("--certificate-lifetime=1d")
        .output()
        .expect("run");
    assert_eq!(mistakes.status.code(), Some(2));
    let text = String::from_utf8_lossy(&mistakes.stderr).into_owned();
    for flag in ["--source", "--jwks", "--certificate-lifetime"] {
        assert!(text.contains(flag), "{text}");
    }
}
