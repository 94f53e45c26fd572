//! The node as its processes show it: its own network namespace, and those of pods that ran before the agent did.
//!
//! Which pod a process belongs to is said by its control group, which a pod cannot choose.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ambit_net::sys::Netns;

/// The node's `/proc`.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    root: PathBuf,
}

impl Processes {
    /// As it is mounted at `root`.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The node's own network namespace: that of its first process.
    pub(super) fn node(&self) -> io::Result<Netns> {
        let path = self.root.join("1/ns/net");
        let named = |error| io::Error::other(format!("{}: {error}", path.display()));
        Netns::open(&path).map_err(named)
    }

    /// A path of the node as it is seen here: `/proc` is another one.
    pub(super) fn seen(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/proc") {
            Ok(rest) => self.root.join(rest),
            Err(_) => path.to_owned(),
        }
    }

    /// The network namespace of the pod with this UID: that of its oldest process. `None` when none runs.
    pub(super) fn netns_of(&self, uid: &str) -> io::Result<Option<PathBuf>> {
        let mut oldest: Option<(u64, u32)> = None;
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Processes end while they are looked at.
            let Ok(groups) = fs::read_to_string(self.root.join(format!("{pid}/cgroup"))) else {
                continue;
            };
            if !groups.lines().any(|line| names_pod(line, uid)) {
                continue;
            }
            let stat = fs::read_to_string(self.root.join(format!("{pid}/stat")));
            let Some(started) = stat.ok().as_deref().and_then(start) else {
                continue;
            };
            if oldest.is_none_or(|known| (started, pid) < known) {
                oldest = Some((started, pid));
            }
        }
        Ok(oldest.map(|(_, pid)| self.root.join(format!("{pid}/ns/net"))))
    }
}

/// Whether a line of `/proc/PID/cgroup` is of the pod: `.../pod<UID>/...`, or with systemd `...-pod<UID with _>.slice/...`.
fn names_pod(line: &str, uid: &str) -> bool {
    !uid.is_empty()
        && line.split('/').any(|part| {
            let part = part.strip_suffix(".slice").unwrap_or(part);
            let group = part.rsplit_once("-pod").map_or(part, |(_, group)| group);
            let group = group.strip_prefix("pod").unwrap_or(group);
            let named = part.starts_with("pod") || part.contains("-pod");
            named && (group == uid || group == uid.replace('-', "_"))
        })
}

/// When a process was started, in ticks since the start of the machine: field 22 of `/proc/PID/stat`, whose second field is a
/// name in brackets that may hold anything.
fn start(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f-1a";

    #[test]
    fn control_groups_name_pods() {
        let cases = [
            ("0::/kubepods/burstable/pod0f-1a/abc", true),
            (
                "0::/../../kubepods-besteffort-pod0f_1a.slice/cri-containerd-abc.scope",
                true,
            ),
            (
                "11:cpu,cpuacct:/kubepods.slice/kubepods-pod0f_1a.slice/crio-1.scope",
                true,
            ),
            ("0::/kubepods/pod0f-1a", true),
            ("0::/kubepods/burstable/pod0f-1ab/abc", false),
            ("0::/kubepods/burstable/podx0f-1a/abc", false),
            ("0::/system.slice/0f-1a", false),
            ("0::/", false),
            ("", false),
        ];
        for (line, is) in cases {
            assert_eq!(names_pod(line, UID), is, "{line}");
        }
        assert!(!names_pod("0::/kubepods/pod", ""));
    }

    #[test]
    fn the_oldest_process_of_a_pod_has_its_namespace() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = |pid: u32, group: &str, started: u64| {
            let place = folder.path().join(pid.to_string());
            fs::create_dir(&place).expect("made");
            let fields = "0 ".repeat(18);
            let stat = format!("{pid} (a ) b) S {fields}{started} 0");
            fs::write(place.join("cgroup"), format!("1:a:/\n0::/{group}\n")).expect("written");
            fs::write(place.join("stat"), stat).expect("written");
        };
        process(7, "kubepods/pod0f-1a/x", 300);
        process(8, "kubepods/pod0f-1a/y", 200);
        process(9, "kubepods/pod0f-1a/y", 200);
        process(3, "kubepods/podother/z", 100);
        fs::create_dir(folder.path().join("5")).expect("made");
        fs::create_dir(folder.path().join("sys")).expect("made");
        let processes = Processes::at(folder.path());
        let found = |uid| processes.netns_of(uid).expect("read");
        assert_eq!(found(UID), Some(folder.path().join("8/ns/net")));
        assert_eq!(found("other"), Some(folder.path().join("3/ns/net")));
        assert_eq!(found("nobody"), None);
    }

    #[test]
    fn the_node_is_where_its_first_process_is() {
        let processes = Processes::at(Path::new("/proc"));
        assert_eq!(
            processes.seen(Path::new("/proc/1/ns/net")),
            Path::new("/proc/1/ns/net")
        );
        let processes = Processes::at(Path::new("/nowhere"));
        assert_eq!(
            processes.seen(Path::new("/proc/1/x")),
            Path::new("/nowhere/1/x")
        );
        assert_eq!(processes.seen(Path::new("/run/x")), Path::new("/run/x"));
        let error = processes.node().expect_err("nothing is there").to_string();
        assert!(error.starts_with("/nowhere/1/ns/net: "), "{error}");
    }
}
