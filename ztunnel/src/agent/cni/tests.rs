use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn conf(extra: Value) -> String {
    let mut conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "ambit-cni",
        "agentSocket": "/nowhere/agent.sock", "prevResult": result()});
    let fields = conf.as_object_mut().expect("an object");
    fields.extend(extra.as_object().expect("an object").clone());
    fields.retain(|_, value| !value.is_null());
    conf.to_string()
}

fn result() -> Value {
    json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}],
        "ips": [{"interface": 0, "address": "10.0.0.7/24", "gateway": "10.0.0.1"}, {"address": "fd00::7/64"}],
        "dns": {"nameservers": ["10.96.0.10"]}, "unknown": [1]})
}

const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u1";

/// A call with the environment of `containerd`, changed by `changes`.
fn run(command: &str, input: &str, changes: &[(&str, &str)]) -> Result<String, CniError> {
    let mut variables = BTreeMap::from([
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "sandbox"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", POD),
    ]);
    variables.extend(changes.iter().copied());
    call(
        |name| variables.get(name).map(|value| (*value).to_owned()),
        input,
    )
}

#[test]
fn versions_are_told_without_configuration() {
    let answer: Value =
        serde_json::from_str(&run("VERSION", "", &[]).expect("an answer")).expect("JSON");
    assert_eq!(answer["cniVersion"], "1.1.0");
    assert_eq!(answer["supportedVersions"][3], "1.0.0");
}

#[test]
fn errors_are_coded_and_say_what_is_wrong() {
    let good = conf(json!({}));
    let no_result = conf(json!({"prevResult": null}));
    let old = conf(json!({"cniVersion": "0.1.0"}));
    let odd = conf(json!({"prevResult": {"ips": [{"address": "ten"}]}}));
    let single = conf(json!({"prevResult": {"ips": "10.0.0.7/24"}}));
    let cases = [
        (
            "MAKE",
            &good,
            ("X", ""),
            4,
            "CNI_COMMAND \"MAKE\" is none of",
        ),
        (
            "ADD",
            &"{".to_owned(),
            ("X", ""),
            6,
            "network configuration: ",
        ),
        ("ADD", &old, ("X", ""), 1, "\"0.1.0\" is none of 0.3.0"),
        ("ADD", &no_result, ("X", ""), 7, "prevResult is missing"),
        ("CHECK", &no_result, ("X", ""), 7, "prevResult is missing"),
        ("ADD", &odd, ("X", ""), 6, "\"ten\" is no address"),
        (
            "ADD",
            &single,
            ("X", ""),
            6,
            "ips is \"10.0.0.7/24\", no list",
        ),
        ("ADD", &good, ("CNI_NETNS", ""), 4, "CNI_NETNS is missing"),
        (
            "DEL",
            &good,
            ("CNI_CONTAINERID", ""),
            4,
            "CNI_CONTAINERID is missing",
        ),
        (
            "ADD",
            &good,
            ("CNI_ARGS", "a"),
            4,
            "CNI_ARGS: \"a\" is not KEY=VALUE",
        ),
        (
            "ADD",
            &good,
            ("X", ""),
            11,
            "node agent at /nowhere/agent.sock: No such file",
        ),
        (
            "CHECK",
            &good,
            ("X", ""),
            11,
            "node agent at /nowhere/agent.sock: No such file",
        ),
        (
            "STATUS",
            &good,
            ("X", ""),
            50,
            "node agent at /nowhere/agent.sock: No such file",
        ),
    ];
    for (command, input, change, code, details) in cases {
        let error = run(command, input, &[change]).expect_err(details);
        assert_eq!(error.code, code, "{command} {change:?}: {error:?}");
        assert!(error.details.contains(details), "{error:?}");
    }
    let error = run("ADD", &good, &[]).expect_err("no agent");
    let shown: Value = serde_json::from_str(&error.render(&good)).expect("JSON");
    assert_eq!(shown["cniVersion"], "1.0.0");
    assert_eq!(shown["msg"], "pod shop/web cannot join the mesh");
    let shown: Value = serde_json::from_str(&error.render("{")).expect("JSON");
    assert_eq!(shown["cniVersion"], "1.1.0");
}

#[test]
fn what_is_no_pod_or_excluded_passes_without_the_agent() {
    let excluded = conf(json!({"excludeNamespaces": ["kube-system", "shop"]}));
    let plain = conf(json!({}));
    for (input, args) in [(&excluded, POD), (&plain, ""), (&plain, "IgnoreUnknown=1")] {
        let change = [("CNI_ARGS", args)];
        let answer = run("ADD", input, &change).expect("passed on");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer, result(), "unchanged");
        for command in ["CHECK", "DEL"] {
            assert_eq!(run(command, input, &change), Ok(String::new()));
        }
    }
    let mut bare = result();
    bare.as_object_mut()
        .expect("an object")
        .remove("cniVersion");
    let input = conf(json!({"prevResult": bare}));
    let answer = run("ADD", &input, &[("CNI_ARGS", "")]).expect("passed on");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer, result(), "with the version that every result has");
}

#[test]
fn ends_do_not_wait_for_an_agent() {
    let change = [("CNI_NETNS", "")];
    for input in [conf(json!({})), conf(json!({"prevResult": null}))] {
        assert_eq!(run("DEL", &input, &change), Ok(String::new()));
        assert_eq!(run("GC", &input, &change), Ok(String::new()));
    }
}

/// The agent ended without knowing whether its installation is gone, and no other came.
#[test]
fn without_an_agent_pods_wait_and_not_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let input = conf(json!({"agentSocket": socket, "cniVersion": "1.1.0"}));
    let answers = || ["ADD", "CHECK", "STATUS"].map(|command| run(command, &input, &[]).is_ok());
    assert_eq!(answers(), [false; 3]);
    doubt::note(&socket).expect("noted");
    assert_eq!(answers(), [false; 3]);
    let long_ago = doubt::now().expect("a clock") - 3600;
    doubt::note_at(&socket, long_ago).expect("an older note");
    assert_eq!(answers(), [true; 3]);
    doubt::clear(&socket).expect("cleared");
    assert_eq!(answers(), [false; 3]);
}
