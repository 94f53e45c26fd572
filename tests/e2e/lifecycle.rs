//! Labs begin and end without a trace, side by side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_lab::harness::{Lab, Options, eventually};
use ambit_lab::state::StateDir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixtures::{client, namespace};

const PATIENCE: Duration = Duration::from_secs(20);

fn one_pod(rootless: bool) -> Options {
    let manifests = namespace("one", "") + &client("one", "pod", "node-1");
    Options {
        manifests,
        rootless,
        ..Options::default()
    }
}

/// The processes that have `name` in their command line.
fn processes(name: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|entry| entry.path());
    all.filter(|path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        path != Path::new("/proc/self") && String::from_utf8_lossy(&line).contains(name)
    })
    .collect()
}

/// Waits until a lab's folder and processes are gone.
pub(crate) fn nothing_left(name: &str) {
    let folder = StateDir::named(name).expect("a name").root().to_owned();
    eventually("the lab's folder to go", PATIENCE, || {
        (!folder.exists()).then_some(())
    });
    eventually("the lab's processes to go", PATIENCE, || {
        processes(name).is_empty().then_some(())
    });
}

#[test]
fn down_leaves_nothing() {
    for rootless in [false, true] {
        let lab = Lab::start(&one_pod(rootless));
        let name = lab.name().to_owned();
        assert!(!processes(&name).is_empty());
        let _ = lab.run(["down"]).success();
        nothing_left(&name);
    }
}

#[test]
fn an_interrupt_leaves_nothing() {
    let lab = Lab::start(&one_pod(false));
    let name = lab.name().to_owned();
    lab.interrupt();
    nothing_left(&name);
}

#[test]
fn killing_the_command_leaves_nothing() {
    let lab = Lab::start(&one_pod(false));
    let name = lab.name().to_owned();
    kill(Pid::from_raw(lab.pid().cast_signed()), Signal::SIGKILL).expect("it runs");
    nothing_left(&name);
}

#[test]
fn killing_the_monitor_leaves_nothing() {
    let lab = Lab::start(&one_pod(false));
    let name = lab.name().to_owned();
    let monitor = processes(&name).into_iter().find(|path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("__monitor")
    });
    let monitor = monitor.expect("a monitor");
    let pid = monitor
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok())
        .expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    nothing_left(&name);
}

#[test]
fn a_failed_start_leaves_nothing_and_says_why() {
    let manifests = namespace("one", "")
        + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: one}\n\
           spec: {containers: [{name: c, image: 'nobody/nothing:1'}]}\n";
    let name = format!("failed-{}", std::process::id());
    let options = Options {
        manifests,
        ..Options::default()
    };
    let said = Lab::try_start_named(&name, &options).expect_err("no such image");
    assert!(
        said.contains("nobody/nothing:1") && said.contains("--image"),
        "{said}"
    );
    nothing_left(&name);
}

#[test]
fn bad_manifests_are_named_and_nothing_of_them_is_applied() {
    let lab = Lab::start(&one_pod(false));
    let bad = namespace("two", "")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: one}\nspec: [\n\
           ---\napiVersion: v1\nkind: Widget\nmetadata: {name: w}\n";
    let said = lab.try_apply(&bad).failure();
    assert!(said.contains(", document 2: "), "{said}");
    assert!(
        said.contains("standard input:11, document 3 (Widget w)"),
        "{said}"
    );
    let _ = lab.run(["get", "namespace", "two"]).failure();
    let lost = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: nowhere}\nspec: {containers: []}\n";
    let said = lab.try_apply(lost).failure();
    assert!(said.contains("namespaces \"nowhere\" not found"), "{said}");
}

#[test]
fn labs_of_different_names_live_side_by_side_and_of_one_name_do_not() {
    let first = Lab::start(&one_pod(false));
    let second = Lab::start(&one_pod(true));
    for lab in [&first, &second] {
        let address = lab.exec("one/pod", &["cat", "/etc/hosts"]).success();
        assert!(address.contains("10.244.1.2"), "{address}");
    }
    let said = Lab::try_start_named(first.name(), &one_pod(false)).expect_err("it is taken");
    assert!(said.contains("is already up"), "{said}");
    let _ = first.exec("one/pod", &["true"]).success();
}
