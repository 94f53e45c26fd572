//! The binary as an operator meets it.

use std::process::{Command, Output};

fn ztunnel(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ztunnel"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn every_bad_variable_is_reported_at_once() {
    let bad = [
        ("SECRET_TTL", "soon"),
        ("ADMIN_ADDR", "here"),
        ("ZTUNNEL_WORKER_THREADS", "-1"),
        ("AMBIT_NODE_LOCL", "direct"),
        ("PROXY_MODE", "sidecar"),
    ];
    let output = ztunnel(&[], &bad);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("5 bad environment variables"), "{error}");
    for (name, value) in bad {
        let line = error
            .lines()
            .find(|line| line.contains(&format!("{name}={value:?}")));
        let line = line.unwrap_or_else(|| panic!("{name} in {error}"));
        assert!(
            line.len() > name.len() + value.len() + 10,
            "says what is accepted: {line}"
        );
    }
    assert!(output.stdout.is_empty(), "nothing was started");
}

#[test]
fn the_configuration_is_printed_as_json() {
    let env = [
        ("CLUSTER_ID", "east"),
        ("SECRET_TTL", "1h"),
        ("ISTIO_META_FOO", "bar"),
    ];
    let output = ztunnel(&["proxy", "ztunnel", "--print-config"], &env);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(config["mesh"]["clusterId"], "east");
    assert_eq!(config["mesh"]["metadata"]["FOO"], "bar");
    assert_eq!(config["controlPlane"]["secretTtl"], "1h");
    assert_eq!(config["pods"]["nodeLocal"], "direct");
    assert!(config["threads"]["workers"].as_u64() > Some(0));
}

#[test]
fn help_and_version() {
    let help = text(&ztunnel(&["--help"], &[]).stdout);
    for name in ["XDS_ADDRESS", "CA_ADDRESS", "INPOD_UDS", "AMBIT_NODE_LOCAL"] {
        assert!(help.contains(name), "{name}");
    }
    let version = text(&ztunnel(&["--version"], &[]).stdout);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let output = ztunnel(&["--nonsense"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--nonsense"));
}
