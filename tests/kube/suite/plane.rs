//! A control plane of a test, as `tests/kube/run` makes it, and kubectl.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_lab::harness::{Lab, Options, Ran, eventually, run};
use ambit_lab::sys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The last line of a control plane that is up.
const READY: &str = "kube is ready";

/// A control plane; it ends with its test.
pub(crate) struct ControlPlane {
    folder: TempDir,
    process: Option<Child>,
}

impl ControlPlane {
    /// Starts a new one and waits until it serves.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = run(kube(&["prepare", &folder.path().to_string_lossy()]), "");
        let _ = made.success();
        let mut plane = Self {
            folder,
            process: None,
        };
        plane.go_on();
        plane
    }

    /// Ends it; its state stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = Pid::from_raw(process.id().cast_signed());
            kill(pid, Signal::SIGTERM).expect("the control plane runs");
            process.wait().expect("it is a child of this process");
        }
    }

    /// Starts it again with the state it has.
    pub(crate) fn go_on(&mut self) {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let mut command = kube(&["serve", &folder]);
        command.stdout(Stdio::piped()).stderr(log);
        sys::die_with_parent(&mut command, Signal::SIGTERM);
        let mut process = command.spawn().expect("the control plane starts");
        let stdout = process.stdout.take().expect("standard output is piped");
        self.process = Some(process);
        let said = BufReader::new(stdout).lines().next();
        if !said.is_some_and(|line| line.is_ok_and(|line| line == READY)) {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            panic!(
                "the control plane did not start:\n{}",
                log.unwrap_or_default()
            );
        }
    }

    /// The kubeconfig of an administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A lab of `nodes` nodes that is joined to it.
    pub(crate) fn lab(&self, nodes: u8) -> Lab {
        let kubeconfig = self.kubeconfig().to_string_lossy().into_owned();
        Lab::start(&Options {
            joined: true,
            arguments: ["--kube", &kubeconfig, "--nodes", &nodes.to_string()]
                .map(str::to_owned)
                .to_vec(),
            ..Options::default()
        })
    }

    /// Runs kubectl.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Ran {
        self.kubectl_with_input(arguments, "")
    }

    /// Runs kubectl with `input` on its standard input.
    pub(crate) fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = kube(&["kubectl"]);
        command.args(arguments).env("KUBECONFIG", self.kubeconfig());
        run(command, input)
    }

    /// Applies manifests.
    pub(crate) fn apply(&self, manifests: &str) {
        let _ = self
            .kubectl_with_input(&["apply", "-f", "-"], manifests)
            .success();
    }

    /// One object.
    pub(crate) fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = self.kubectl(&["get", kind, name, "-n", namespace, "-o", "json"]);
        (found.code == 0).then(|| found.json())
    }

    /// Waits until a rollout is done.
    pub(crate) fn rolled_out(&self, namespace: &str, workload: &str) {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let _ = self
            .kubectl(&["rollout", "status", "-n", namespace, workload, &timeout])
            .success();
    }

    /// The pods with a label, once none of another state is left.
    pub(crate) fn pods(&self, selector: &str) -> Vec<Value> {
        let list = self
            .kubectl(&["get", "pods", "-l", selector, "-o", "json"])
            .json();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until no pod has the label.
    pub(crate) fn no_pods(&self, selector: &str) {
        eventually(&format!("no pod with {selector}"), PATIENCE, || {
            self.pods(selector).is_empty().then_some(())
        });
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

fn kube(arguments: &[&str]) -> Command {
    let program = std::env::var_os("AMBIT_KUBE");
    let program = program.expect("AMBIT_KUBE is not set: run `tests/kube/run tests`");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
