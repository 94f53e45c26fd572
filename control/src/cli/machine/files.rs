//! What a machine gets.

use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ambit_core::addr::NamespacedName;
use anyhow::Context;

use crate::ca::ROOTS;

const TOKEN: &str = "token";
const ENVIRONMENT: &str = "ztunnel.env";

/// A machine that is to join the mesh.
pub(super) struct Machine {
    pub(super) entry: NamespacedName,
    pub(super) account: String,
    /// Where it is, as its entry says.
    pub(super) address: String,
    /// Whether callers open tunnels to it.
    pub(super) is_in_the_mesh: bool,
    pub(super) control: String,
    pub(super) trust_domain: String,
    pub(super) cluster_id: String,
    /// Where the files are on it.
    pub(super) folder: PathBuf,
    pub(super) token: String,
    pub(super) token_lifetime: u64,
    /// PEM.
    pub(super) roots: String,
}

impl Machine {
    /// Writes the files into a folder, the token for its owner alone.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (name, content, mode) in [
            (TOKEN, &self.token, 0o600),
            (ROOTS, &self.roots, 0o644),
            (ENVIRONMENT, &self.environment(), 0o644),
        ] {
            let path = folder.join(name);
            write(&path, content, mode).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// The environment of its proxy, as a unit of systemd reads it.
    pub(super) fn environment(&self) -> String {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let NamespacedName { namespace, name } = &self.entry;
        let variables = [
            ("PROXY_MODE", "dedicated".to_owned()),
            (
                "PROXY_WORKLOAD_INFO",
                format!("{namespace}/{name}/{}", self.account),
            ),
            ("XDS_ADDRESS", self.control.clone()),
            ("CA_ADDRESS", self.control.clone()),
            ("XDS_ROOT_CA", file(ROOTS)),
            ("CA_ROOT_CA", file(ROOTS)),
            ("AUTH_TOKEN", file(TOKEN)),
            ("AMBIT_STATE_DIR", "/var/lib/ambit".to_owned()),
            ("CLUSTER_ID", self.cluster_id.clone()),
            ("TRUST_DOMAIN", self.trust_domain.clone()),
        ];
        let mut text = String::new();
        for (name, value) in variables {
            let _ = writeln!(text, "{name}={value}");
        }
        if self.address.parse::<std::net::IpAddr>().is_ok() {
            let _ = writeln!(text, "INSTANCE_IP={}", self.address);
        }
        text
    }

    /// What is to be done with what was written to `folder`.
    pub(super) fn next_steps(&self, folder: &Path) -> String {
        let mut text = format!(
            "{folder}: {TOKEN} (good for {seconds} seconds), {ROOTS}, {ENVIRONMENT}\n\
             Put them into {place} of the machine at {address}, the token for root alone, and start ztunnel there\n\
             with that environment and CAP_NET_ADMIN (manifests/README.md has a unit of systemd).\n",
            folder = folder.display(),
            seconds = self.token_lifetime,
            place = self.folder.display(),
            address = self.address,
        );
        if !self.is_in_the_mesh {
            let _ = writeln!(
                text,
                "WorkloadEntry {} has no label networking.istio.io/tunnel=http: until it has, callers send it plain text.",
                self.entry
            );
        }
        text
    }
}

/// Replaces a file as a whole: who reads it has the old one or the new one.
fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)?;
    file.write_all(content.as_bytes())?;
    fs::rename(draft, path)
}
