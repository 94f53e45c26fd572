//! `ambit machine`: all that a machine without a kubelet needs to join the mesh, as files.

mod files;
mod token;

use std::path::PathBuf;

use ambit_core::addr::NamespacedName;
use ambit_core::trust_domain::TrustDomain;
use ambit_net::grpc::Address;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::explain::{self, names};
use crate::cluster::bundles::{Bundle, ROOTS};
use crate::cluster::collection::path;
use crate::cluster::{Cluster, escaped};
use crate::index::Index;
use crate::source::entry::WorkloadEntry;
use crate::source::kube::resources::collection;
use crate::source::{Event, Kind};
use crate::translate::Mesh;
use crate::translate::entry::workload::is_in_the_mesh;

use files::Machine;

const EXAMPLES: &str = "\
Examples:
  ambit machine shop/vm-1 --control https://mesh.example:15012 --output vm-1
  ambit machine shop/vm-1 --control https://mesh.example:15012 --output vm-1 -f ./mesh \\
      --signing-key ./issuer.pem --token-issuer https://issuer.example --root-cert ./published/root-cert.pem

The WorkloadEntry comes first: it says where the machine is (spec.address), as whom it runs (spec.serviceAccount), and
by its label networking.istio.io/tunnel=http that a proxy is there. What is written is a token, the roots of the mesh
and the environment of ztunnel; put them into the machine's --folder. The token is good for --token-lifetime, once the
machine has a certificate it needs none. The API server is kubectl's: it signs the token (create serviceaccounts/token).
Without one, -f has the objects, and --signing-key signs what a control plane with --jwks believes.";

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
    #[arg(long, value_name = "DIR", default_value = "/etc/ambit")]
    pub folder: PathBuf,
    /// Seconds for which the token is good
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u64).range(600..=604_800))]
    pub token_lifetime: u64,
    /// Audience of the token, as control's
    #[arg(long, value_name = "NAME", default_value = "istio-ca")]
    pub token_audience: String,
    /// The mesh's trust domain [default: that of ambit-control, with files cluster.local]
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// Name of the cluster, as control's
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub cluster_id: String,
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
    /// Roots of the mesh: root-cert.pem of control's --publish-dir
    #[arg(long, value_name = "FILE", requires = "files")]
    pub root_cert: Option<PathBuf>,
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
        let (namespace, name) = (&*self.entry.namespace, &*self.entry.name);
        let entry = entry(cluster, namespace, name).await?;
        let account = entry.spec.account();
        let accounts = path("", "v1", Some(namespace), "serviceaccounts");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [self.token_audience], "expirationSeconds": self.token_lifetime},
        });
        let place = format!("{accounts}/{}/token", escaped(account));
        let granted: Result<Value, _> = cluster.create(&place, &request).await;
        let granted =
            granted.with_context(|| format!("a token of service account {namespace}/{account}"))?;
        let token = granted["status"]["token"].as_str();
        let token = token.context("the API server's answer has no token")?;
        let Bundle { name, file, .. } = ROOTS;
        let maps = path("", "v1", Some(namespace), "configmaps");
        let published: Result<Value, _> = cluster.read(&format!("{maps}/{name}")).await;
        let published = published.with_context(|| format!("ConfigMap {namespace}/{name}"))?;
        let roots = published["data"][file].as_str();
        let roots = roots.with_context(|| format!("ConfigMap {namespace}/{name} has no {file}"))?;
        let trust_domain = match &self.trust_domain {
            Some(own) => own.clone(),
            None => names::of_running(cluster).await?.own().parse()?,
        };
        Ok(self.machine(&entry, trust_domain, token, roots))
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
        // Said by clap when one is missing.
        let (Some(key), Some(issuer), Some(roots)) =
            (&self.signing_key, &self.token_issuer, &self.root_cert)
        else {
            bail!("-f needs --signing-key, --token-issuer and --root-cert");
        };
        let text = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| path.display().to_string())
        };
        let claims = token::Claims {
            issuer,
            audience: &self.token_audience,
            namespace: &self.entry.namespace,
            account: entry.spec.account(),
            seconds: self.token_lifetime,
        };
        let token = token::sign(&claims, &text(key)?, self.key_id.as_deref());
        let token = token.map_err(|why| anyhow!("{}: {why}", key.display()))?;
        let trust_domain = self.trust_domain.clone().unwrap_or_default();
        Ok(self.machine(entry, trust_domain, &token, &text(roots)?))
    }

    fn machine(
        &self,
        entry: &WorkloadEntry,
        trust_domain: TrustDomain,
        token: &str,
        roots: &str,
    ) -> Machine {
        Machine {
            entry: self.entry.clone(),
            account: entry.spec.account().to_owned(),
            address: entry.spec.address.clone().unwrap_or_default(),
            is_in_the_mesh: is_in_the_mesh(entry),
            control: self.control.to_string(),
            trust_domain: trust_domain.to_string(),
            cluster_id: self.cluster_id.clone(),
            folder: self.folder.clone(),
            token: token.to_owned(),
            token_lifetime: self.token_lifetime,
            roots: roots.to_owned(),
        }
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
