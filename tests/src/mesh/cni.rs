//! Calls the CNI plugin as a container runtime does: chained behind the lab's own network, with the
//! result so far on standard input and the rest in the environment (CNI specification 1.0).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::api::Key;
use crate::cluster::LabNode;
use crate::net::plan::{self, Pair};
use crate::stage::{self, Mode, Mount, RunSpec};

/// How long the plugin may take, as container runtimes allow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pod as the plugin hears of it.
#[derive(Debug, Clone)]
pub struct CniRequest {
    /// The sandbox's number.
    pub container_id: String,
    /// The file of its network namespace.
    pub netns: PathBuf,
    /// The pod.
    pub pod: Key,
    /// Its identity.
    pub uid: String,
    /// What the plugins before this one gave it.
    pub addresses: Pair,
}

/// How the plugin of a node is called.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The program.
    pub program: PathBuf,
    /// Its configuration, with the version and the name of its chain.
    pub config: Value,
    /// What it sees of the node's own files.
    pub mounts: Vec<Mount>,
    /// A folder of the node.
    pub folder: PathBuf,
    /// What this machine allows.
    pub mode: Mode,
}

impl Plugin {
    /// Calls the plugin with `command` (`ADD`, `DEL`).
    ///
    /// # Errors
    /// The plugin's own words, with its error code.
    pub async fn call(
        &self,
        command: &str,
        node: &LabNode,
        request: &CniRequest,
    ) -> Result<(), String> {
        let run = self.run(command, node, request);
        match timeout(PATIENCE, run).await {
            Ok(Ok(output)) => verdict(command, request, &output),
            Ok(Err(error)) => Err(format!("cannot run {}: {error}", self.program.display())),
            Err(_) => Err(format!(
                "the CNI plugin did not answer {command} within {PATIENCE:?}"
            )),
        }
    }

    async fn run(
        &self,
        command: &str,
        node: &LabNode,
        request: &CniRequest,
    ) -> io::Result<std::process::Output> {
        let file = self
            .folder
            .join(format!("cni-{command}-{}.json", request.container_id));
        fs::write(
            &file,
            serde_json::to_vec(&self.spec(command, node, request))?,
        )?;
        let mut process = tokio::process::Command::from(stage::command("__run", &file));
        process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process.kill_on_drop(true).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(&serde_json::to_vec(&self.config(request))?)
                .await?;
        }
        let output = child.wait_with_output().await;
        fs::remove_file(&file)?;
        output
    }

    fn spec(&self, command: &str, node: &LabNode, request: &CniRequest) -> RunSpec {
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};\
             K8S_POD_UID={}",
            request.pod.namespace, request.pod.name, request.container_id, request.uid
        );
        let path = self.program.parent().unwrap_or(Path::new("/"));
        let env: BTreeMap<String, String> = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", request.container_id.clone()),
            ("CNI_NETNS", request.netns.to_string_lossy().into_owned()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_ARGS", arguments),
            ("CNI_PATH", path.to_string_lossy().into_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        RunSpec {
            netns: node.netns.path().to_owned(),
            hostname: None,
            mounts: self.mounts.clone(),
            scratch: self.folder.clone(),
            cwd: PathBuf::from("/"),
            argv: vec![self.program.to_string_lossy().into_owned()],
            env,
            uid: None,
            gid: None,
            own_processes: false,
            mode: self.mode,
        }
    }

    fn config(&self, request: &CniRequest) -> Value {
        let mut config = self.config.clone();
        config["prevResult"] = json!({
            "cniVersion": config["cniVersion"],
            "interfaces": [{"name": "eth0", "sandbox": request.netns}],
            "ips": ips(request.addresses),
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            "dns": {},
        });
        config
    }
}

fn ips(addresses: Pair) -> Value {
    let gateway = plan::gateway(addresses.v4.octets()[2]);
    json!([
        {"interface": 0, "address": format!("{}/32", addresses.v4), "gateway": gateway.v4},
        {"interface": 0, "address": format!("{}/128", addresses.v6), "gateway": gateway.v6},
    ])
}

/// Judges the plugin's answer as container runtimes do: the chain's result has to come back.
fn verdict(
    command: &str,
    request: &CniRequest,
    output: &std::process::Output,
) -> Result<(), String> {
    let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    if !output.status.success() {
        let error = answer.as_ref().and_then(|answer| {
            let message = answer["msg"].as_str()?;
            let details = answer["details"].as_str().unwrap_or_default();
            Some(format!(
                "{message} {details} (CNI error {})",
                answer["code"]
            ))
        });
        let words = error.unwrap_or_else(|| {
            format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )
        });
        return Err(format!("CNI plugin, {command}: {words}"));
    }
    if command == "ADD" {
        let wanted = ips(request.addresses);
        let returned = answer.as_ref().map(|answer| &answer["ips"]);
        let same = |index: usize| {
            returned.is_some_and(|ips| ips[index]["address"] == wanted[index]["address"])
        };
        if !same(0) || !same(1) {
            return Err("CNI plugin, ADD: it did not pass the previous result on".to_owned());
        }
    }
    Ok(())
}
