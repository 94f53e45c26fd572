//! What a machine gets.

use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ambit_core::addr::NamespacedName;
use anyhow::Context;

use super::granted::Granted;
use super::told::Told;
use crate::cluster::bundles::{REVOKED, ROOTS};

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
    pub(super) known: Known,
    /// Where the files are on it.
    pub(super) folder: PathBuf,
    /// How long the token was to be good.
    pub(super) asked_seconds: u32,
    pub(super) granted: Granted,
}

/// What a machine gets of the mesh, as every proxy does.
pub(super) struct Known {
    pub(super) told: Told,
    /// PEM.
    pub(super) roots: String,
    /// Lists of revoked certificates, PEM. None where the mesh has none.
    pub(super) revoked: Option<String>,
}

impl Machine {
    /// Writes the files into a folder, the token for its owner alone.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let revoked = self.known.revoked.as_deref();
        let files = [
            (TOKEN, Some(&*self.granted.token), 0o600),
            (ROOTS.file, Some(&*self.known.roots), 0o644),
            (REVOKED.file, revoked, 0o644),
            (ENVIRONMENT, Some(&*self.environment()), 0o644),
        ];
        for (name, content, mode) in files {
            let path = folder.join(name);
            let done = match content {
                Some(content) => write(&path, content, mode),
                // One of an earlier time is not the machine's any more.
                None => remove(&path),
            };
            done.with_context(|| path.display().to_string())?;
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
            ("XDS_ROOT_CA", file(ROOTS.file)),
            ("CA_ROOT_CA", file(ROOTS.file)),
            // Also while there is none: lists may come later.
            ("CRL_PATH", file(REVOKED.file)),
            ("AUTH_TOKEN", file(TOKEN)),
            ("AMBIT_STATE_DIR", "/var/lib/ambit".to_owned()),
        ];
        let mut text = String::new();
        for (name, value) in variables.iter().chain(&self.known.told) {
            let _ = writeln!(text, "{name}={value}");
        }
        if self.address.parse::<std::net::IpAddr>().is_ok() {
            let _ = writeln!(text, "INSTANCE_IP={}", self.address);
        }
        text
    }

    /// What is to be done with what was written to `folder`.
    pub(super) fn next_steps(&self, folder: &Path) -> String {
        let revoked = match self.known.revoked {
            Some(_) => format!("{}, ", REVOKED.file),
            None => String::new(),
        };
        let mut text = format!(
            "{folder}: {TOKEN} (good until {until}), {roots}, {revoked}{ENVIRONMENT}\n\
             Put them into {place} of the machine at {address}, the token for root alone, and start ztunnel there\n\
             with that environment and CAP_NET_ADMIN (manifests/README.md has a unit of systemd).\n",
            folder = folder.display(),
            until = self.granted.until,
            roots = ROOTS.file,
            place = self.folder.display(),
            address = self.address,
        );
        if let Some(seconds) = self.granted.is_shorter_than(self.asked_seconds) {
            let _ = writeln!(
                text,
                "The API server makes tokens shorter than the {} seconds of --token-lifetime: this one is good for {seconds}.",
                self.asked_seconds
            );
        }
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
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
