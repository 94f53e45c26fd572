//! What a node has of its own files: where container runtimes look for CNI plugins, sockets of the
//! node's programs, its processes. All nodes share the machine's other files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::api::Key;
use crate::cluster::LabNode;
use crate::stage::Mount;

const FOLDER: &str = "/run/ambit-lab/nodes";
/// What all nodes share nevertheless: network namespaces, and the lab's own.
const SHARED: &[&str] = &["/run/netns", "/run/ambit-lab"];
/// What is each node's own.
const OWN: &[&str] = &["/etc/cni", "/opt/cni", "/proc", "/run", "/var/lib"];
/// The network that the lab gives pods, as the first plugin of a node's chain.
const NETWORK: &str = "lab";

/// The files of one node.
#[derive(Debug, Clone)]
pub(crate) struct NodeFiles {
    root: PathBuf,
}

impl NodeFiles {
    /// The files of the node called `name`, whether they are there or not.
    pub(crate) fn of(name: &str) -> Self {
        Self {
            root: Path::new(FOLDER).join(name),
        }
    }

    /// Makes the files of a node as they are before anything is installed.
    ///
    /// # Errors
    /// What could not be made.
    pub(crate) fn prepare(node: &LabNode) -> io::Result<Self> {
        let files = Self::of(&node.name);
        for folder in OWN {
            fs::create_dir_all(files.inside(Path::new(folder)))?;
        }
        let chain = json!({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [{"type": NETWORK}]});
        fs::create_dir_all(files.chains())?;
        fs::write(files.chains().join("10-lab.conflist"), chain.to_string())?;
        files.add_process(1, node.netns.path(), "/init.scope")?;
        Ok(files)
    }

    /// Empties `/run`, which is in memory.
    ///
    /// # Errors
    /// What could not be removed.
    pub(crate) fn wipe_run(&self) -> io::Result<()> {
        let run = self.inside(Path::new("/run"));
        fs::remove_dir_all(&run)?;
        fs::create_dir(&run)
    }

    /// Where `path` of the node is on this machine.
    pub(crate) fn place(&self, path: &Path) -> PathBuf {
        let path = match path.strip_prefix("/var/run") {
            Ok(rest) => Path::new("/run").join(rest),
            Err(_) => path.to_owned(),
        };
        let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        if below(OWN) && !below(SHARED) {
            self.inside(&path)
        } else {
            path
        }
    }

    /// Mounts that show a program of the node the node's own `/run`.
    pub(crate) fn mounts(&self) -> io::Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for entry in fs::read_dir(self.inside(Path::new("/run")))? {
            let entry = entry?;
            mounts.push(Mount {
                source: entry.path(),
                target: Path::new("/run").join(entry.file_name()),
                read_only: false,
            });
        }
        Ok(mounts)
    }

    /// Where the chains of CNI plugins are.
    pub(crate) fn chains(&self) -> PathBuf {
        self.inside(Path::new("/etc/cni/net.d"))
    }

    /// Where the CNI plugin `name` is.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        self.inside(Path::new("/opt/cni/bin")).join(name)
    }

    /// Shows a pod's sandbox as a process of the node: its network namespace and its control group.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn add_pod(&self, pid: u32, netns: &Path, uid: &str, id: &str) -> io::Result<()> {
        self.add_process(pid, netns, &format!("/kubepods/besteffort/pod{uid}/{id}"))
    }

    fn add_process(&self, pid: u32, netns: &Path, group: &str) -> io::Result<()> {
        let process = self.process(pid);
        fs::create_dir_all(process.join("ns"))?;
        fs::write(process.join("cgroup"), format!("0::{group}\n"))?;
        // Its state, and nothing else that is not zero: all processes were started at the same time.
        let stat = format!("{pid} (pause) S{}\n", " 0".repeat(49));
        fs::write(process.join("stat"), stat)?;
        let place = process.join("ns/net");
        File::create(&place)?;
        let none: Option<&str> = None;
        mount(Some(netns), &place, none, MsFlags::MS_BIND, none)?;
        Ok(())
    }

    /// Takes a pod's process away.
    pub(crate) fn remove_pod(&self, pid: u32, pod: &Key) {
        let process = self.process(pid);
        let gone = umount2(&process.join("ns/net"), MntFlags::MNT_DETACH).map_err(io::Error::from);
        if let Err(error) = gone.and_then(|()| fs::remove_dir_all(&process)) {
            tracing::warn!(%pod, %error, "cannot remove a pod's process");
        }
    }

    fn process(&self, pid: u32) -> PathBuf {
        self.inside(Path::new("/proc")).join(pid.to_string())
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_paths_are_the_nodes_own() {
        let files = NodeFiles::of("node-1");
        for (path, place) in [
            (
                "/etc/cni/net.d",
                "/run/ambit-lab/nodes/node-1/etc/cni/net.d",
            ),
            (
                "/var/run/ztunnel",
                "/run/ambit-lab/nodes/node-1/run/ztunnel",
            ),
            ("/proc", "/run/ambit-lab/nodes/node-1/proc"),
            ("/var/run/netns", "/run/netns"),
            ("/run/ambit-lab/mesh/ca", "/run/ambit-lab/mesh/ca"),
            ("/etc/hosts", "/etc/hosts"),
            ("/processes", "/processes"),
        ] {
            assert_eq!(files.place(Path::new(path)), Path::new(place), "{path}");
        }
    }
}
