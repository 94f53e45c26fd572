//! The pods in the mesh, remembered on disk: an agent that starts again has to know them, whatever else is down.
//!
//! One small file a pod. A record is believed only while its path still leads to the same namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ambit_core::exclusions::Exclusions;
use ambit_net::sys::Netns;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::pod::Pod;

/// A pod in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) service_account: String,
    /// The sandbox that the runtime knows it by: a late DEL of an earlier one is not about this.
    pub(super) container_id: String,
    pub(super) netns: PathBuf,
    /// Which namespace was at that path: device and inode.
    pub(super) identity: (u64, u64),
    pub(super) ips: Vec<IpAddr>,
    /// Whether its DNS is captured, if it says so itself.
    #[serde(default)]
    pub(super) dns_capture: Option<bool>,
    /// What of it is left alone.
    #[serde(default)]
    pub(super) exclusions: Exclusions,
    /// Whether its UDP is captured.
    #[serde(default)]
    pub(super) udp: bool,
}

impl Record {
    pub(super) fn new(
        pod: Pod,
        container_id: &str,
        netns: &Path,
        ips: &[IpAddr],
    ) -> io::Result<Self> {
        Ok(Self {
            uid: pod.uid,
            namespace: pod.namespace,
            name: pod.name,
            service_account: pod.service_account,
            container_id: container_id.to_owned(),
            netns: netns.to_owned(),
            identity: identity(netns)?,
            ips: ips.to_vec(),
            dns_capture: pod.dns_capture,
            exclusions: pod.exclusions,
            udp: pod.udp,
        })
    }

    /// `NAMESPACE/NAME`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The pod's namespace, if it is still the one at the path.
    pub(super) fn open(&self) -> io::Result<Netns> {
        let netns = Netns::open(&self.netns)?;
        if identity(&self.netns)? != self.identity || netns.inode() != self.identity.1 {
            return Err(io::Error::other("another namespace is there now"));
        }
        Ok(netns)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// All records.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    known: Mutex<BTreeMap<String, Record>>,
}

impl Records {
    /// Reads what an earlier agent left in `folder`. A file that is no record is set aside with a warning.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read =
                fs::read(&path).and_then(|text| Ok(serde_json::from_slice::<Record>(&text)?));
            match read {
                Ok(record) => {
                    known.insert(record.uid.clone(), record);
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "not a pod's record");
                    fs::rename(&path, path.with_extension("bad"))?;
                }
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            known: Mutex::new(known),
        })
    }

    pub(super) fn all(&self) -> Vec<Record> {
        self.known.lock().values().cloned().collect()
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<Record> {
        self.known.lock().get(uid).cloned()
    }

    pub(super) fn by_container(&self, container_id: &str) -> Option<Record> {
        let known = self.known.lock();
        known
            .values()
            .find(|record| record.container_id == container_id)
            .cloned()
    }

    /// Remembers a pod; a crash leaves the old file or the new one.
    pub(super) fn insert(&self, record: Record) -> io::Result<()> {
        let path = self.path(&record.uid)?;
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(&record)?)?;
        fs::rename(new, path)?;
        self.known.lock().insert(record.uid.clone(), record);
        Ok(())
    }

    pub(super) fn remove(&self, uid: &str) -> io::Result<()> {
        self.known.lock().remove(uid);
        match fs::remove_file(self.path(uid)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets all, and removes the folder.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.known.lock().clear();
        fs::remove_dir_all(&self.folder)
    }

    /// UIDs name files: one that would lead elsewhere is none.
    fn path(&self, uid: &str) -> io::Result<PathBuf> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if uid.is_empty() || uid.len() > 128 || !uid.bytes().all(plain) {
            let words = format!("{uid:?} is not a pod's UID");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        Ok(self.folder.join(format!("{uid}.json")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(uid: &str) -> Record {
        let pod = Pod {
            uid: uid.into(),
            name: "a".into(),
            namespace: "b".into(),
            exclusions: Exclusions {
                inbound_ports: [9090].into(),
                outbound_ranges: ["fd00::/8".parse().expect("a range")].into(),
                ..Exclusions::default()
            },
            udp: true,
            ..Pod::default()
        };
        let netns = Path::new("/proc/self/ns/net");
        let ips = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().expect("an address"));
        Record::new(pod, "sandbox", netns, &ips).expect("a namespace")
    }

    #[test]
    fn records_outlive_their_agent() {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::open(folder.path()).expect("empty");
        records.insert(record("u1")).expect("kept");
        records.insert(record("u2")).expect("kept");
        records.remove("u2").expect("gone");
        records.remove("u2").expect("twice is fine");
        fs::write(folder.path().join("half.json"), "{").expect("written");
        let records = Records::open(folder.path()).expect("read");
        assert_eq!(records.all(), [record("u1")]);
        assert_eq!(records.by_container("sandbox"), Some(record("u1")));
        record("u1").open().expect("the same namespace");
        assert!(folder.path().join("half.bad").exists());
    }

    #[test]
    fn what_an_older_agent_wrote_leaves_nothing_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut written = serde_json::to_value(record("u")).expect("JSON");
        let fields = written.as_object_mut().expect("fields");
        fields.remove("exclusions").expect("they were there");
        fields.remove("udp").expect("it was there");
        fs::write(folder.path().join("u.json"), written.to_string()).expect("written");
        let read = Records::open(folder.path()).expect("read").all();
        assert_eq!(read[0].exclusions, Exclusions::default());
        assert!(!read[0].udp);
    }

    #[test]
    fn another_namespace_at_the_path_is_not_the_pods() {
        let mut old = record("u");
        old.identity.1 += 1;
        assert!(old.open().is_err());
        old.netns = "/nowhere".into();
        assert!(old.open().is_err());
    }

    #[test]
    fn uids_do_not_lead_out_of_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::open(folder.path()).expect("empty");
        for uid in ["", "../up", "a/b", "a.b"] {
            assert!(records.insert(record(uid)).is_err(), "{uid:?}");
        }
    }
}
