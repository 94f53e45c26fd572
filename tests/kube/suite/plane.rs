//! A control plane of a test, as `tests/kube/run` makes it, and kubectl.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_lab::harness::{Lab, Options, Ran, eventually, program, run};
use ambit_lab::sys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The last line of a control plane that is up.
const READY: &str = "kube is ready";

/// A control plane; it ends with its test.
pub(crate) struct ControlPlane {
    folder: TempDir,
    process: Mutex<Option<Child>>,
}

impl ControlPlane {
    /// Starts a new one and waits until it serves.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a new one whose API server has more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = run(kube(&["prepare", &folder.path().to_string_lossy()]), "");
        let _ = made.success();
        let plane = Self {
            folder,
            process: Mutex::default(),
        };
        plane.serve(flags);
        plane
    }

    /// Ends it; its state stays.
    pub(crate) fn stop(&self) {
        let process = self.process.lock().take();
        if let Some(mut process) = process {
            let pid = Pid::from_raw(process.id().cast_signed());
            kill(pid, Signal::SIGTERM).expect("the control plane runs");
            process.wait().expect("it is a child of this process");
        }
    }

    /// Starts it again with the state it has.
    pub(crate) fn go_on(&self) {
        self.serve(&[]);
    }

    fn serve(&self, flags: &[&str]) {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let mut command = kube(&["serve", &folder]);
        command.args(flags).stdout(Stdio::piped()).stderr(log);
        sys::die_with_parent(&mut command, Signal::SIGTERM);
        let mut process = command.spawn().expect("the control plane starts");
        let stdout = process.stdout.take().expect("standard output is piped");
        *self.process.lock() = Some(process);
        let said = BufReader::new(stdout).lines().next();
        if !said.is_some_and(|line| line.is_ok_and(|line| line == READY)) {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            panic!(
                "the control plane did not start:\n{}",
                log.unwrap_or_default()
            );
        }
    }

    /// Where its files are, for what has to go with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The kubeconfig of an administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// What service accounts have asked of the API server so far, as its audit log has it.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.path().join("audit.log")).expect("a log");
        // The last line may be half written.
        let lines = log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let events = lines.map(|line| serde_json::from_str(line).expect("an event"));
        events.collect()
    }

    /// A lab of `nodes` nodes that is joined to it.
    pub(crate) fn lab(&self, nodes: u8) -> Lab {
        self.lab_with(nodes, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn lab_with(&self, nodes: u8, more: &[&str]) -> Lab {
        let kubeconfig = self.kubeconfig().to_string_lossy().into_owned();
        let egress = self.folder.path().join("egress.sock");
        let (nodes, egress) = (nodes.to_string(), egress.to_string_lossy());
        let joined = [
            "--kube",
            &kubeconfig,
            "--egress",
            &egress,
            "--nodes",
            &nodes,
        ];
        let arguments = joined.iter().chain(more).map(|it| (*it).to_owned());
        Lab::start(&Options {
            joined: true,
            arguments: arguments.collect(),
            ..Options::default()
        })
    }

    /// Makes the kinds known that are not ours and that the mesh reads, as their projects define them.
    pub(crate) fn define(&self) {
        let folder = std::env::var_os("AMBIT_KUBE_CRDS");
        let folder = folder.expect("AMBIT_KUBE_CRDS is not set: run `tests/kube/run tests`");
        let folder = folder.to_string_lossy().into_owned();
        let _ = self
            .kubectl(&["apply", "--server-side", "-f", &folder])
            .success();
        self.established();
    }

    /// Makes a kind of others known, of whatever content, in whose definition nothing here is tested.
    pub(crate) fn define_kind(&self, group: &str, kind: &str) {
        let singular = kind.to_lowercase();
        self.apply(&format!(
            "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {singular}s.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: {kind}, plural: {singular}s, singular: {singular}}}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"
        ));
    }

    /// Waits until all kinds that are defined are served.
    pub(crate) fn established(&self) {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let condition = "--for=condition=Established";
        let _ = self
            .kubectl(&["wait", condition, "crd", "--all", &timeout])
            .success();
    }

    /// Waits until an object of a namespace has a condition.
    pub(crate) fn condition(&self, namespace: &str, object: &str, condition: &str) {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let condition = format!("--for=condition={condition}");
        let _ = self
            .kubectl(&["wait", "-n", namespace, &condition, object, &timeout])
            .success();
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

    /// Runs `ambit` as an operator.
    pub(crate) fn ambit(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(program("ambit"));
        command.args(arguments).env("KUBECONFIG", self.kubeconfig());
        run(command, "")
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

    /// Waits until a namespace has the account that its pods need.
    pub(crate) fn account(&self, namespace: &str) {
        eventually("an account", PATIENCE, || {
            self.object("serviceaccount", namespace, "default")
                .map(drop)
        });
    }

    /// What the node proxy of a pod shows to a control plane, and the roots it verifies it with, once they are there.
    pub(crate) fn proxy_credentials(&self, pod: &str) -> (String, String) {
        let bound = format!("--bound-object-name={pod}");
        let token = ["create", "token", "ztunnel", "-n", "ambit-system"];
        let token =
            token
                .into_iter()
                .chain(["--audience=istio-ca", "--bound-object-kind=Pod", &bound]);
        let token = self.kubectl(&token.collect::<Vec<_>>()).success();
        let roots = eventually("the roots are published", PATIENCE, || {
            let map = self.object("configmap", "ambit-system", "istio-ca-root-cert")?;
            map["data"]["root-cert.pem"].as_str().map(str::to_owned)
        });
        (token.trim().to_owned(), roots)
    }

    /// Waits until a rollout is done.
    pub(crate) fn rolled_out(&self, namespace: &str, workload: &str) {
        // Node after node.
        let timeout = format!("--timeout={}s", 3 * PATIENCE.as_secs());
        let _ = self
            .kubectl(&["rollout", "status", "-n", namespace, workload, &timeout])
            .success();
    }

    /// The pods of the default namespace with a label.
    pub(crate) fn pods(&self, selector: &str) -> Vec<Value> {
        self.pods_of("default", selector)
    }

    /// The pods of a namespace with a label.
    pub(crate) fn pods_of(&self, namespace: &str, selector: &str) -> Vec<Value> {
        let list = self
            .kubectl(&["get", "pods", "-n", namespace, "-l", selector, "-o", "json"])
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
