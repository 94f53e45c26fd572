use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};

use serde_json::json;

use super::*;
use crate::cli::{Cli, Command, environment};
use crate::cluster::fake::Fake;

const CONTROL: &str = "https://mesh.example:15012";

fn flags(more: &[&str]) -> Flags {
    let all = [
        "ambit",
        "machine",
        "shop/vm-1",
        "--control",
        CONTROL,
        "--output",
        "out",
    ];
    let parsed = Cli::try_parse_from(all.iter().chain(more)).expect("flags");
    match parsed.command {
        Some(Command::Machine(flags)) => *flags,
        _ => panic!("another command"),
    }
}

fn document() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "vm-1", "namespace": "shop"},
        "spec": {"address": "192.0.2.7", "serviceAccount": "vm"},
    })
}

#[test]
fn a_key_signs_what_control_believes() {
    let claims = token::Claims {
        issuer: "https://issuer",
        audience: "istio-ca",
        namespace: "shop",
        account: "vm",
        seconds: 600,
    };
    for (kind, algorithm) in [
        (&PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        (&PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
        (&PKCS_RSA_SHA256, Algorithm::RS256),
    ] {
        let key = KeyPair::generate_for(kind).expect("a key");
        let signed = token::sign(&claims, &key.serialize_pem(), Some("one")).expect("signed");
        let public = match algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(key.public_key_pem().as_bytes()),
            _ => DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()),
        };
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["istio-ca"]);
        validation.set_issuer(&["https://issuer"]);
        let read = decode::<Value>(&signed, &public.expect("a key"), &validation);
        let read = read.expect("it holds");
        assert_eq!(read.claims["sub"], "system:serviceaccount:shop:vm");
        assert_eq!(read.header.kid.as_deref(), Some("one"));
        assert!(read.claims["kubernetes.io"].is_null());
    }
    let other = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    for key in [
        other.serialize_pem(),
        other.public_key_pem(),
        "key".to_owned(),
    ] {
        let error = token::sign(&claims, &key, None).expect_err("no key for it");
        assert!(error.contains("no private key"), "{error}");
    }
}

#[tokio::test]
async fn files_of_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_string_lossy().into_owned()
    };
    let key = KeyPair::generate().expect("a key").serialize_pem();
    let (key, roots) = (file("key.pem", &key), file("roots.pem", "ROOTS"));
    let objects = file("mesh.yaml", &document().to_string());
    let out = folder.path().join("out");
    let at = out.to_string_lossy().into_owned();
    let more = [
        "-f",
        &objects,
        "--signing-key",
        &key,
        "--token-issuer",
        "https://issuer",
        "--root-cert",
        &roots,
    ];
    let mut of_files = flags(&more);
    of_files.output.clone_from(&out);
    let said = of_files.run().await.expect("written");
    assert!(
        said.contains("machine at 192.0.2.7") && said.starts_with(&at),
        "{said}"
    );
    assert!(
        said.contains("has no label networking.istio.io/tunnel=http"),
        "{said}"
    );
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect("written");
    let mode = std::fs::metadata(out.join("token"))
        .expect("there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert_eq!(read("token").split('.').count(), 3);
    assert_eq!(read("root-cert.pem"), "ROOTS");
    let environment = read("ztunnel.env");
    assert_eq!(
        environment,
        "PROXY_MODE=dedicated\nPROXY_WORKLOAD_INFO=shop/vm-1/vm\n\
         XDS_ADDRESS=https://mesh.example:15012\nCA_ADDRESS=https://mesh.example:15012\n\
         XDS_ROOT_CA=/etc/ambit/root-cert.pem\nCA_ROOT_CA=/etc/ambit/root-cert.pem\nCRL_PATH=/etc/ambit/ca-crl.pem\n\
         AUTH_TOKEN=/etc/ambit/token\nAMBIT_STATE_DIR=/var/lib/ambit\n\
         TRUST_DOMAIN=cluster.local\nAMBIT_TRUST_DOMAIN_ALIASES=\nAMBIT_OUTBOUND_TRAFFIC_POLICY=ALLOW_ANY\n\
         CLUSTER_ID=Kubernetes\nCLUSTER_DOMAIN=cluster.local\nAMBIT_ROOT_NAMESPACE=istio-system\nINSTANCE_IP=192.0.2.7\n"
    );
    assert!(!out.join("ca-crl.pem").exists(), "the mesh has none");
    of_files.crl = Some(file("lists.pem", "LISTS").into());
    let said = of_files.run().await.expect("written");
    assert!(
        said.contains("root-cert.pem, ca-crl.pem, ztunnel.env"),
        "{said}"
    );
    assert_eq!(read("ca-crl.pem"), "LISTS");
    of_files.crl = None;
    of_files.run().await.expect("written");
    assert!(!out.join("ca-crl.pem").exists(), "and has none any more");
    of_files.entry = "shop/vm-2".parse().expect("a name");
    let none = of_files.run().await.expect_err("no entry").to_string();
    assert_eq!(none, "WorkloadEntry shop/vm-2 is not in these files");
}

/// The DaemonSet of the node proxies, with these variables.
fn proxies(env: &Value) -> Value {
    environment::of_part("DaemonSet", "ztunnel", "ztunnel", env)
}

fn map(namespace: &str, name: &str, file: &str, content: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace}, "data": {file: content}})
}

/// A cluster with the entry, the roots and a mesh that was told nothing.
async fn cluster() -> Fake {
    let fake = Fake::start().await;
    fake.set("networking.istio.io/workloadentries", document());
    fake.set(
        "/configmaps",
        map("shop", "istio-ca-root-cert", "root-cert.pem", "ROOTS"),
    );
    fake.set("apps/daemonsets", proxies(&json!([])));
    fake
}

async fn refused(fake: &Fake, more: &[&str]) -> String {
    let machine = flags(more).of_cluster(&fake.cluster()).await;
    format!("{:#}", machine.err().expect("not all is known"))
}

#[tokio::test]
async fn files_of_a_cluster() {
    let none = refused(&Fake::start().await, &[]).await;
    assert!(
        none.contains("WorkloadEntry shop/vm-1: there is none"),
        "{none}"
    );
    let fake = cluster().await;
    let machine = flags(&[]).of_cluster(&fake.cluster()).await.expect("read");
    assert_eq!(machine.granted.token, "token of vm for istio-ca");
    assert_eq!(machine.known.roots, "ROOTS");
    assert_eq!(machine.known.revoked, None);
    let quiet = machine.environment();
    for line in [
        "CLUSTER_ID=Kubernetes\n",
        "CRL_PATH=/etc/ambit/ca-crl.pem\n",
    ] {
        assert!(quiet.contains(line), "{quiet}");
    }

    for (namespace, lists) in [("shop", "OTHER"), (SYSTEM, "LISTS")] {
        let map = map(namespace, "istio-ca-crl", "ca-crl.pem", lists);
        fake.set("/configmaps", map);
    }
    fake.set(
        "apps/daemonsets",
        proxies(&json!([
            {"name": "TRUST_DOMAIN", "value": "new.example"},
            {"name": "AMBIT_TRUST_DOMAIN_ALIASES", "value": "old.example, older.example"},
            {"name": "AMBIT_OUTBOUND_TRAFFIC_POLICY", "value": "REGISTRY_ONLY"},
            {"name": "CLUSTER_ID", "value": "west-1"},
            {"name": "ISTIO_META_CLUSTER_ID", "value": "east-1"},
            {"name": "CLUSTER_DOMAIN", "value": ""},
            {"name": "AMBIT_ROOT_NAMESPACE", "value": "mesh-root"},
        ])),
    );
    let machine = flags(&[]).of_cluster(&fake.cluster()).await.expect("read");
    assert_eq!(machine.known.revoked.as_deref(), Some("LISTS"));
    let told = "TRUST_DOMAIN=new.example\nAMBIT_TRUST_DOMAIN_ALIASES=old.example,older.example\n\
        AMBIT_OUTBOUND_TRAFFIC_POLICY=REGISTRY_ONLY\nCLUSTER_ID=east-1\nCLUSTER_DOMAIN=cluster.local\n\
        AMBIT_ROOT_NAMESPACE=mesh-root\nINSTANCE_IP=192.0.2.7\n";
    let environment = machine.environment();
    assert!(environment.ends_with(told), "{environment}");
    let more = ["--cluster-id", "mine", "--token-audience", "theirs"];
    let machine = flags(&more)
        .of_cluster(&fake.cluster())
        .await
        .expect("read");
    assert!(machine.environment().contains("CLUSTER_ID=mine\n"));
    assert_eq!(machine.granted.token, "token of vm for theirs");

    let mut document = document();
    document["spec"]["serviceAccount"] = json!("vm\nCRL_PATH=");
    fake.set("networking.istio.io/workloadentries", document);
    let wrong = refused(&fake, &[]).await;
    assert!(wrong.contains("spec.serviceAccount is"), "{wrong}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_the_flag_that_says_it() {
    let fake = cluster().await;
    fake.fail("istio-ca-crl", 403, None);
    fake.fail("istio-ca-root-cert", 403, None);
    fake.fail("daemonsets/ztunnel", 403, None);
    let wrong = refused(&fake, &["--cluster-id", "Kubernetes"]).await;
    let lines: Vec<&str> = wrong.lines().collect();
    let flags = "--trust-domain, --trust-domain-aliases, --outbound-traffic-policy, --cluster-domain, --root-namespace";
    for (line, (begins, ends)) in lines.iter().zip([
        (
            "ConfigMap shop/istio-ca-root-cert: ",
            "; --root-cert says what is in it",
        ),
        (
            "ConfigMap ambit-system/istio-ca-crl: ",
            "; --crl says what is in it",
        ),
        (
            "DaemonSet ambit-system/ztunnel",
            &*format!("; say it with {flags}"),
        ),
    ]) {
        assert!(line.starts_with(begins) && line.ends_with(ends), "{line}");
        assert!(line.contains("403"), "{line}");
    }
    assert_eq!(lines.len(), 3, "{wrong}");
    assert!(
        fake.requests("/token").is_empty(),
        "none is granted in vain"
    );

    let elsewhere = json!([
        {"name": "TRUST_DOMAIN", "valueFrom": {"configMapKeyRef": {"name": "mesh", "key": "name"}}},
        {"name": "AMBIT_OUTBOUND_TRAFFIC_POLICY", "value": "SOME"},
        {"name": "CLUSTER_ID", "value": "$(REGION)-1"},
    ]);
    fake.set("apps/daemonsets", proxies(&elsewhere));
    let wrong = refused(&fake, &[]).await;
    let lines: Vec<&str> = wrong.lines().collect();
    assert_eq!(lines.len(), 3, "{wrong}");
    assert!(
        lines[2].ends_with("(\"$(REGION)-1\"); --cluster-id says it"),
        "{wrong}"
    );
    assert!(
        lines[0].ends_with("(valueFrom); --trust-domain says it"),
        "{wrong}"
    );
    assert!(
        lines[1].ends_with("; --outbound-traffic-policy says it"),
        "{wrong}"
    );
    let mut hidden = proxies(&json!([{"name": "CLUSTER_ID", "value": "one"}]));
    hidden["spec"]["template"]["spec"]["containers"][1]["envFrom"] =
        json!([{"configMapRef": {"name": "mesh"}}]);
    fake.set("apps/daemonsets", hidden);
    let wrong = refused(&fake, &[]).await;
    // All six: of the cluster's name the other variable would go first.
    assert_eq!(wrong.matches("(envFrom); --").count(), 6, "{wrong}");
    fake.remove("apps/daemonsets", "ambit-system", "ztunnel");
    fake.remove("/configmaps", "shop", "istio-ca-root-cert");
    let wrong = refused(&fake, &[]).await;
    assert!(
        wrong.contains("has no root-cert.pem; --root-cert"),
        "{wrong}"
    );
    assert!(
        wrong.contains("there is none; say it with --trust"),
        "{wrong}"
    );
}

#[tokio::test]
async fn a_token_is_good_for_as_long_as_the_api_server_says() {
    let fake = cluster().await;
    let ask = async || {
        let more = ["--token-lifetime", "7200"];
        let machine = flags(&more).of_cluster(&fake.cluster()).await;
        machine.expect("read")
    };
    let left = |machine: &Machine| {
        machine
            .granted
            .until
            .duration_since(Timestamp::now())
            .as_secs()
    };
    let whole = ask().await;
    assert!((7100..=7200).contains(&left(&whole)), "{}", left(&whole));
    let said = whole.next_steps(Path::new("out"));
    let until = format!("token (good until {})", whole.granted.until);
    assert!(said.contains(&until) && !said.contains("shorter"), "{said}");
    fake.shorten_tokens(600);
    let short = ask().await;
    assert!((500..=600).contains(&left(&short)), "{}", left(&short));
    let said = short.next_steps(Path::new("out"));
    assert!(said.contains("shorter than the 7200 seconds"), "{said}");
}

#[test]
fn control_is_reached_in_plain_text_on_loopback_alone() {
    let parse = |control| {
        let all = [
            "ambit",
            "machine",
            "shop/vm-1",
            "--output",
            "out",
            "--control",
            control,
        ];
        Cli::try_parse_from(all)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(parse("http://127.0.0.1:15012"), Ok(()));
    for control in ["http://mesh.example:15012", "http://192.0.2.1:15012"] {
        let refused = parse(control).expect_err("in clear");
        assert!(
            refused.contains("http:// is for loopback only"),
            "{refused}"
        );
    }
}
