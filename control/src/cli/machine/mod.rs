//! `ambit machine`: all that a machine without a kubelet needs to join the mesh, as files.

mod files;
mod granted;
mod token;
mod told;

use std::path::{Path, PathBuf};

use ambit_core::addr::NamespacedName;
use ambit_net::grpc::Address;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::explain;
use crate::cluster::bundles::{Bundle, REVOKED, ROOTS};
use crate::cluster::collection::path;
use crate::cluster::{Cluster, escaped};
use crate::index::Index;
use crate::source::entry::WorkloadEntry;
use crate::source::kube::resources::collection;
use crate::source::{Event, Kind};
use crate::translate::Mesh;
use crate::translate::entry::workload::is_in_the_mesh;

use files::{Known, Machine};
use granted::Granted;
use told::{Said, cause, word};

/// The namespace of the proxies of nodes.
const SYSTEM: &str = "ambit-system";

const EXAMPLES: &str = "\
Examples:
  ambit machine shop/vm-1 --control https://mesh.example:15012 --output vm-1
  ambit machine shop/vm-1 --control https://mesh.example:15012 --output vm-1 -f ./mesh \\
      --signing-key ./issuer.pem --token-issuer https://issuer.example --root-cert ./published/root-cert.pem

The WorkloadEntry comes first: it says where the machine is (spec.address), as whom it runs (spec.serviceAccount), and
by its label networking.istio.io/tunnel=http that a proxy is there. What is written is a token, the roots of the mesh, its
lists of revoked certificates if it has any, and the environment of ztunnel; put them into the machine's --folder. The token is
good for --token-lifetime or as long as the API server grants, once the machine has a certificate it needs none.

The API server is kubectl's. You need the rights to create serviceaccounts/token of the account, and to get the WorkloadEntry,
ConfigMap istio-ca-root-cert of its namespace, ConfigMap ambit-system/istio-ca-crl and DaemonSet ambit-system/ztunnel, which
say what the proxies of nodes are told: flags are for what you may not read. Without an API server, -f has the objects, and --signing-key signs what
a control plane with --jwks believes; what flags do not say of the mesh then is as where nobody says it.";

/// Flags of `ambit machine`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// The WorkloadEntry of the machine
    #[arg(value_name = "NAMESPACE/NAME")]
    pub entry: NamespacedName,
    /// Where the machine reaches the control plane: a name of its certificate
    #[arg(long, value_name = "https://HOST:PORT")]
    pub control: Address,
    /// Folder to write the files into
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Where they are on the machine
    #[arg(long, value_name = "DIR", default_value = "/etc/ambit", value_parser = folder)]
    pub folder: PathBuf,
    /// Seconds for which the token is to be good
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u32).range(600..=604_800))]
    pub token_lifetime: u32,
    /// Audience of the token, as control's
    #[arg(long, value_name = "NAME", default_value = "istio-ca")]
    pub token_audience: String,
    /// Roots of the mesh (PEM) [default: of ConfigMap istio-ca-root-cert; with -f root-cert.pem of control's --publish-dir]
    #[arg(long, value_name = "FILE")]
    pub root_cert: Option<PathBuf>,
    /// Lists of revoked certificates (PEM), of an empty file none [default: of ConfigMap ambit-system/istio-ca-crl, with -f none]
    #[arg(long, value_name = "FILE")]
    pub crl: Option<PathBuf>,
    /// What is said of the mesh; by default what the DaemonSet of the node proxies says.
    #[command(flatten)]
    pub said: Said,
    /// A file or folder of Kubernetes objects instead of the cluster's; may be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", requires_all = ["signing_key", "token_issuer", "root_cert"])]
    pub files: Vec<PathBuf>,
    /// Private key of the token issuer (PEM: EC P-256 or P-384, or RSA), whose public one is in control's --jwks
    #[arg(long, value_name = "FILE", requires = "files")]
    pub signing_key: Option<PathBuf>,
    /// The key's id there, if there are several
    #[arg(long, value_name = "ID", requires = "files")]
    pub key_id: Option<String>,
    /// Issuer of tokens, exactly as control's
    #[arg(long, value_name = "URL", requires = "files")]
    pub token_issuer: Option<String>,
}

impl Flags {
    /// Writes the files; the text to print.
    ///
    /// # Errors
    /// There is no such entry, no token for it, or a file cannot be written.
    pub async fn run(&self) -> anyhow::Result<String> {
        let machine = match self.files.is_empty() {
            true => {
                let none = |error| anyhow!("there is no API server to ask, and no file: {error}");
                let (cluster, _) = Cluster::of_operator().await.map_err(none)?;
                self.of_cluster(&cluster).await?
            }
            false => self.of_files()?,
        };
        machine.write(&self.output)?;
        Ok(machine.next_steps(&self.output))
    }

    async fn of_cluster(&self, cluster: &Cluster) -> anyhow::Result<Machine> {
        let namespace = &*self.entry.namespace;
        let entry = entry(cluster, namespace, &self.entry.name).await?;
        is_plain(&entry)?;
        let roots = match &self.root_cert {
            Some(file) => text(file).map(Some),
            None => published(cluster, namespace, ROOTS, "--root-cert").await,
        };
        let roots = roots.and_then(|found| {
            let Bundle { name, file, .. } = ROOTS;
            found.with_context(|| {
                format!("ConfigMap {namespace}/{name} has no {file}; --root-cert says the roots")
            })
        });
        let revoked = match &self.crl {
            Some(file) => text(file).map(Some),
            // Those of the proxies of nodes: other namespaces may have older ones, or none.
            None => published(cluster, SYSTEM, REVOKED, "--crl").await,
        };
        let told = self.said.of_running(cluster).await;
        match (roots, revoked, told) {
            (Ok(roots), Ok(revoked), Ok(told)) => {
                let known = Known {
                    told,
                    roots,
                    revoked,
                };
                // The last of all: what is granted is for what is written.
                let (seconds, audience) = (self.token_lifetime, &self.token_audience);
                let account = entry.spec.account();
                let token = granted::ask(cluster, (namespace, account), audience, seconds).await?;
                Ok(self.machine(&entry, known, token))
            }
            (roots, revoked, told) => {
                let wrong = [
                    roots.err(),
                    revoked.err(),
                    told.err().map(anyhow::Error::msg),
                ];
                let wrong = wrong.into_iter().flatten().map(|it| format!("{it:#}"));
                bail!("{}", wrong.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    fn of_files(&self) -> anyhow::Result<Machine> {
        let (mut events, mut problems) = (Vec::<Event>::new(), Vec::new());
        for path in &self.files {
            explain::read(path, &mut events, &mut problems).map_err(anyhow::Error::msg)?;
        }
        let mut index = Index::new(Mesh::default());
        index.apply(events);
        let entries = &index.objects().workload_entries;
        let Some(entry) = entries.find(&self.entry.namespace, &self.entry.name) else {
            let unread: String = problems.iter().map(|it| format!("\n  {it}")).collect();
            bail!("WorkloadEntry {} is not in these files{unread}", self.entry);
        };
        is_plain(entry)?;
        // Said by clap when one is missing.
        let (Some(key), Some(issuer), Some(roots)) =
            (&self.signing_key, &self.token_issuer, &self.root_cert)
        else {
            bail!("-f needs --signing-key, --token-issuer and --root-cert");
        };
        let claims = token::Claims {
            issuer,
            audience: &self.token_audience,
            namespace: &self.entry.namespace,
            account: entry.spec.account(),
            seconds: self.token_lifetime.into(),
        };
        let token = token::sign(&claims, &text(key)?, self.key_id.as_deref());
        let token = token.map_err(|why| anyhow!("{}: {why}", key.display()))?;
        let known = Known {
            told: self.said.alone(),
            roots: text(roots)?,
            revoked: self.crl.as_deref().map(text).transpose()?,
        };
        let granted = Granted {
            token,
            until: Timestamp::now() + SignedDuration::from_secs(self.token_lifetime.into()),
        };
        Ok(self.machine(entry, known, granted))
    }

    fn machine(&self, entry: &WorkloadEntry, known: Known, granted: Granted) -> Machine {
        Machine {
            entry: self.entry.clone(),
            account: entry.spec.account().to_owned(),
            address: entry.spec.address.clone().unwrap_or_default(),
            is_in_the_mesh: is_in_the_mesh(entry),
            control: self.control.to_string(),
            known,
            folder: self.folder.clone(),
            asked_seconds: self.token_lifetime,
            granted,
        }
    }
}

/// Whether the account that the entry says stands in one line of the environment, and writes no other.
fn is_plain(entry: &WorkloadEntry) -> anyhow::Result<()> {
    let account = entry.spec.account();
    match word(account) {
        Ok(_) => Ok(()),
        Err(why) => bail!("the WorkloadEntry's spec.serviceAccount is {account:?}: {why}"),
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// A folder of the machine, as a file of an environment takes it.
fn folder(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => word(text).map(PathBuf::from),
        false => Err("it has to begin with /".to_owned()),
    }
}

/// What control has published in a namespace; None where it has not.
async fn published(
    cluster: &Cluster,
    namespace: &str,
    bundle: Bundle,
    flag: &str,
) -> anyhow::Result<Option<String>> {
    let Bundle { name, file, .. } = bundle;
    let maps = path("", "v1", Some(namespace), "configmaps");
    match cluster.read::<Value>(&format!("{maps}/{name}")).await {
        Ok(map) => Ok(map["data"][file].as_str().map(str::to_owned)),
        Err(failure) if failure.status() == Some(404) => Ok(None),
        Err(failure) => bail!(
            "ConfigMap {namespace}/{name}: {}; {flag} says what is in it",
            cause(&failure)
        ),
    }
}

/// A WorkloadEntry of the cluster, in the best version that it has.
async fn entry(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<WorkloadEntry> {
    let all = collection(Kind::WorkloadEntry).one(namespace, name);
    let shown = format!("WorkloadEntry {namespace}/{name}");
    for version in 0..all.versions.len() {
        let place = format!("{}/{}", all.path(version), escaped(name));
        match cluster.read(&place).await {
            Err(failure) if failure.status() == Some(404) => {}
            found => return found.context(shown),
        }
    }
    bail!(
        "{shown}: there is none; it says where the machine is and as whom it runs, so create it first"
    )
}

#[cfg(test)]
mod tests;
