use clap::Parser;

use crate::cli::{Cli, Command};

fn mistakes(flags: &[&str]) -> Vec<String> {
    let all = ["ambit", "control"].iter().chain(flags);
    let cli = Cli::try_parse_from(all).expect("clap takes texts");
    let Some(Command::Control(flags)) = cli.command else {
        panic!("control");
    };
    flags
        .check()
        .map_or_else(|mistakes| mistakes.0, |_| Vec::new())
}

fn names(mistakes: &[String]) -> Vec<&str> {
    let names = mistakes
        .iter()
        .map(|m| m.split(':').next().unwrap_or_default());
    names.collect()
}

#[test]
fn all_mistakes_show_at_once_and_nothing_is_written() {
    let base = tempfile::tempdir().expect("a folder");
    let ca = base.path().join("ca");
    let mistakes = mistakes(&[
        "--source=/does/not/exist",
        "--xds-address=nowhere",
        "--admin-address=127.0.0.1",
        "--health-address=15021",
        &format!("--ca-dir={}", ca.display()),
        "--jwks=/does/not/exist.json",
        "--token-issuer=",
        "--token-audience=",
        "--trusted-node-account=ztunnel",
        "--dns-name=a b",
        "--certificate-lifetime=1d",
        "--trust-domain=a/b",
        "--trust-domain-aliases=good,b ad",
    ]);
    assert_eq!(
        names(&mistakes),
        [
            "--source",
            "--xds-address",
            "--admin-address",
            "--health-address",
            "--token-issuer",
            "--jwks",
            "--token-audience",
            "--trusted-node-account",
            "--dns-name",
            "--trust-domain",
            "--trust-domain-aliases",
            "--certificate-lifetime",
        ]
    );
    assert!(!ca.exists());
}

#[test]
fn what_a_folder_needs_kubernetes_has() {
    let folder = mistakes(&["--source=."]);
    assert_eq!(names(&folder), ["--ca-dir", "--jwks", "--token-issuer"]);
    let files = ["--ca-dir=a", "--jwks=b", "--token-issuer=c"];
    let kubernetes = mistakes(&[
        "--source=kubernetes",
        files[0],
        files[1],
        files[2],
        "--namespace=a/b",
        "--identity=",
        "--waypoint-image=",
    ]);
    assert_eq!(
        names(&kubernetes),
        [
            "--ca-dir",
            "--jwks",
            "--token-issuer",
            "--namespace",
            "--identity",
            "--waypoint-image"
        ]
    );
    assert_eq!(mistakes(&["--source=kubernetes"]), [""; 0]);
}

#[test]
fn an_authority_is_published_beside_its_key() {
    let files = |flags: &[&str]| {
        let all = ["--source=.", "--jwks=b", "--token-issuer=c"];
        let all: Vec<_> = all.iter().chain(flags).copied().collect();
        mistakes(&all).join("\n")
    };
    let wrong = |found: &str| found.contains("--publish-dir");
    assert!(!wrong(&files(&["--ca-dir=a", "--publish-dir=b"])));
    let elsewhere = ["--ca-address=https://csr:443", "--tls-dir=/tls"];
    assert!(wrong(&files(
        &[&elsewhere[..], &["--publish-dir=b"]].concat()
    )));
    let kubernetes = mistakes(&["--source=kubernetes", "--publish-dir=b"]);
    assert_eq!(names(&kubernetes), ["--publish-dir"]);
}

#[test]
fn another_authority_comes_with_a_certificate_to_serve_with() {
    let on = |flags: &[&str]| {
        let all: Vec<_> = ["--source=kubernetes"]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        mistakes(&all)
    };
    let address = "--ca-address=https://cert-manager-istio-csr.cert-manager.svc:443";
    assert_eq!(on(&[address, "--tls-dir=/tls"]), [""; 0]);
    assert_eq!(names(&on(&[address])), ["--ca-address"]);
    assert_eq!(names(&on(&["--tls-dir=/tls"])), ["--tls-dir"]);
    assert_eq!(
        names(&on(&["--ca-address=nowhere", "--tls-dir=/tls"])),
        ["--ca-address"]
    );
    let folder = mistakes(&["--source=.", address, "--tls-dir=/tls"]);
    assert_eq!(names(&folder), ["--jwks", "--token-issuer"]);
    let both = mistakes(&["--source=.", address, "--tls-dir=/tls", "--ca-dir=a"]);
    assert_eq!(names(&both), ["--ca-dir", "--jwks", "--token-issuer"]);
}
