use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};

use super::*;
use crate::cli::{Cli, Command};
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
async fn files_of_a_folder_and_of_a_cluster() {
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
         XDS_ROOT_CA=/etc/ambit/root-cert.pem\nCA_ROOT_CA=/etc/ambit/root-cert.pem\n\
         AUTH_TOKEN=/etc/ambit/token\nAMBIT_STATE_DIR=/var/lib/ambit\n\
         CLUSTER_ID=Kubernetes\nTRUST_DOMAIN=cluster.local\nINSTANCE_IP=192.0.2.7\n"
    );
    of_files.entry = "shop/vm-2".parse().expect("a name");
    let none = of_files.run().await.expect_err("no entry").to_string();
    assert_eq!(none, "WorkloadEntry shop/vm-2 is not in these files");

    let fake = Fake::start().await;
    let missing = flags(&[]).of_cluster(&fake.cluster()).await;
    let missing = format!("{:#}", missing.err().expect("no entry"));
    assert!(
        missing.contains("WorkloadEntry shop/vm-1: there is none"),
        "{missing}"
    );
    fake.set("networking.istio.io/workloadentries", document());
    let map = json!({"metadata": {"name": "istio-ca-root-cert", "namespace": "shop"}, "data": {"root-cert.pem": "ROOTS"}});
    fake.set("/configmaps", map);
    let machine = flags(&[]).of_cluster(&fake.cluster()).await.expect("read");
    assert_eq!((&*machine.token, &*machine.roots), ("token of vm", "ROOTS"));
    assert_eq!(machine.environment(), environment);
}
