//! A lab with one proxy, driven by its command line.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::binaries::Binaries;
use crate::cleanup::Cleanup;
use crate::process::Processes;
use crate::scene;

/// A running lab; `down` when dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    program: PathBuf,
    load: PathBuf,
    name: String,
    proxies: Processes,
    is_up: bool,
}

impl Lab {
    /// Starts a lab whose nodes run `ztunnel`, and waits until everything in it is ready.
    pub(crate) fn up(
        binaries: &Binaries,
        folder: &Path,
        name: &str,
        ztunnel: &Path,
        cleanup: &Cleanup,
    ) -> anyhow::Result<Self> {
        let own = folder.join(format!("ztunnel-{name}"));
        std::fs::copy(ztunnel, &own)
            .with_context(|| format!("cannot copy {}", ztunnel.display()))?;
        let objects = folder.join("scene.yaml");
        std::fs::write(&objects, scene::objects(&binaries.echo).to_string())?;
        let mut lab = Self {
            program: binaries.lab.clone(),
            load: binaries.load.clone(),
            name: format!("bench-{}-{name}", std::process::id()),
            proxies: Processes::of(own.clone()),
            is_up: true,
        };
        cleanup.add(
            lab.program.clone(),
            vec!["down".into(), "--name".into(), lab.name.clone()],
        );
        let mut up = lab.command("up");
        up.args(["--detach", "--nodes", "2"]);
        up.arg("--ztunnel").arg(own).arg("-f").arg(objects);
        // Messages are for the person who watches; standard output is for the table.
        let status = up.stdout(std::io::stderr()).status();
        let status = status.with_context(|| format!("cannot run {}", lab.program.display()))?;
        if status.success() {
            return Ok(lab);
        }
        // It says why itself, and leaves nothing behind.
        lab.is_up = false;
        bail!("the lab with {name} did not start ({status})")
    }

    /// The proxies of all nodes.
    pub(crate) fn proxies(&self) -> &Processes {
        &self.proxies
    }

    /// The pod's first address.
    pub(crate) fn address(&self, namespace: &str, pod: &str) -> anyhow::Result<String> {
        let output = self
            .command("get")
            .args(["pods", "-n", namespace, "-o", "json"])
            .output()?;
        if !output.status.success() {
            bail!(
                "lab get pods: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let list: Value =
            serde_json::from_slice(&output.stdout).context("lab get pods answers no JSON")?;
        let pods = list["items"]
            .as_array()
            .context("lab get pods answers no list")?;
        let named = pods.iter().find(|item| item["metadata"]["name"] == pod);
        let address = named.and_then(|item| item["status"]["podIP"].as_str());
        let address = address.with_context(|| format!("pod {namespace}/{pod} has no address"))?;
        let address: std::net::IpAddr = address.parse()?;
        Ok(std::net::SocketAddr::new(address, scene::PORT).to_string())
    }

    /// Runs `load` in the client pod of a namespace; every line that it prints goes to `on_line`, the last one is the
    /// result.
    pub(crate) fn load(
        &self,
        namespace: &str,
        arguments: &[String],
        mut on_line: impl FnMut(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let mut exec = self.command("exec");
        exec.args(["-n", namespace, scene::CLIENT, "--"])
            .arg(&self.load)
            .args(arguments);
        let mut process = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().context("standard output is piped")?;
        let mut last = Value::Null;
        for line in BufReader::new(stdout).lines() {
            last = serde_json::from_str(&line?).context("load answers no JSON")?;
            on_line(&last)?;
        }
        let status = process.wait()?;
        if !status.success() {
            bail!("load {} ({status}): {last}", arguments.join(" "));
        }
        Ok(last)
    }

    /// Applies or deletes the objects of a file, and waits until that is so.
    pub(crate) fn objects(&self, subcommand: &str, file: &Path) -> anyhow::Result<()> {
        let mut command = self.command(subcommand);
        let status = command.arg("-f").arg(file).stdout(Stdio::null()).status()?;
        if status.success() {
            Ok(())
        } else {
            bail!("lab {subcommand} -f {} ({status})", file.display())
        }
    }

    /// Takes the lab down.
    pub(crate) fn down(&mut self) -> anyhow::Result<()> {
        self.is_up = false;
        let status = self.command("down").stdout(Stdio::null()).status()?;
        if status.success() {
            Ok(())
        } else {
            bail!("lab down --name {} ({status})", self.name)
        }
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([subcommand, "--name", &self.name]);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_up {
            // We are on the way out because of another error.
            let _ = self.down();
        }
    }
}
