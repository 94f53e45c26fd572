//! Flags of `ambit control`: read as texts, checked together, so that every mistake shows at once.

mod check;
mod place;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ambit_core::identity::Identity;
use ambit_core::index::DEFAULT_ROOT_NAMESPACE;
use ambit_core::trust_domain::{DEFAULT_TRUST_DOMAIN, TrustDomainError, TrustDomains};
use clap::Args;
use serde_json::json;

use check::{Check, duration, is_host};

use crate::ca::follow::OnDisk;
use crate::ca::{Certificates, External};
use crate::tokens::Tokens;
use crate::translate::Mesh;

const EXAMPLES: &str = "\
Example:
  ambit control --source ./mesh --ca-dir ./ca --jwks ./jwks.json \\
      --token-issuer https://kubernetes.default.svc --trusted-node-account ambit-system/ztunnel

  ambit control --source kubernetes

On Kubernetes objects are watched, tokens are checked by the API server (TokenReview), and the certificate
authority is in Secret cacerts, if there is one, else in Secret ambit-ca, which is made when it is missing.
The API server is that of KUBECONFIG, of ~/.kube/config or of the pod, in this order.

A source folder holds Kubernetes objects as YAML or JSON, as `kubectl get -o yaml` prints them:
Namespace, Node, Pod (with its status), Service, EndpointSlice, ServiceAccount, ConfigMap, the kinds of the
Gateway API, of Istio's policies and services, and of ambit.dev. The folder is watched. To know when a change is in force:

  curl -X POST 'http://127.0.0.1:15014/sync?timeout=30'

The log is set with RUST_LOG (info), and with LOG_FORMAT=json its lines are JSON.";

/// Flags of `ambit control`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Folder of Kubernetes objects: every *.yaml, *.yml and *.json below it; or `kubernetes`, an API server
    /// (a folder of that name is ./kubernetes)
    #[arg(long, value_name = "DIR|kubernetes")]
    pub source: PathBuf,
    /// Where proxies get configuration and certificates (TLS); port 0 picks a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15012")]
    pub xds_address: String,
    /// Where operators ask (plain HTTP, no authentication: keep it local); port 0 picks a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15014")]
    pub admin_address: String,
    /// Where /healthz/ready and /metrics are served besides, and nothing else, for probes and scrapers
    #[arg(long, value_name = "IP:PORT")]
    pub health_address: Option<String>,
    /// File to write once both ports listen: {"xds": "IP:PORT", "admin": "IP:PORT"}
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// The certificate authority: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem, and ca-crl.pem where something is
    /// revoked; made when the folder is missing or empty, read again when it changes (the steps to another root are those
    /// of a Secret; move files into place). Not on Kubernetes
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Folder in which is written what proxies have to know of the authority, whenever that changes: root-cert.pem
    /// (XDS_ROOT_CA, CA_ROOT_CA) and, once it has revoked something, ca-crl.pem (CRL_PATH). Only with --ca-dir: on
    /// Kubernetes they are in ConfigMaps
    #[arg(long, value_name = "DIR")]
    pub publish_dir: Option<PathBuf>,
    /// Another authority signs the certificates of workloads, by the same API: cert-manager's istio-csr for instance.
    /// Proxies have the same CA_ADDRESS, and the authority publishes its roots (ConfigMap istio-ca-root-cert). Needs
    /// --tls-dir
    #[arg(long, value_name = "https://HOST:PORT")]
    pub ca_address: Option<String>,
    /// Folder of this server's own certificate, which that authority keeps fresh: tls.crt and tls.key, as a Secret of
    /// type kubernetes.io/tls is mounted; read again when they change. Only with --ca-address
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Public keys of the token issuer (JSON Web Key Set); read again when it changes. Not on Kubernetes
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Audience that tokens must be for; may be given several times
    #[arg(long, value_name = "NAME", default_value = "istio-ca")]
    pub token_audience: Vec<String>,
    /// Issuer of tokens, exactly as their `iss` says. Not on Kubernetes
    #[arg(long, value_name = "URL")]
    pub token_issuer: Option<String>,
    /// Account of node proxies: they may ask for identities of pods on their own node; may be given
    /// several times
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "ambit-system/ztunnel"
    )]
    pub trusted_node_account: Vec<String>,
    /// Namespace of this installation: of its Secrets and its Lease. Only on Kubernetes
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "ambit-system"
    )]
    pub namespace: String,
    /// Name of this replica among those that compete for the Lease [default: a random one]. Only on
    /// Kubernetes
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Image of waypoints; without one no waypoint is deployed. Only on Kubernetes
    #[arg(long, value_name = "IMAGE", env = "WAYPOINT_IMAGE")]
    pub waypoint_image: Option<String>,
    /// Name (DNS or IP) in the server certificate; may be given several times. Not with --ca-address
    #[arg(
        long,
        value_name = "NAME",
        default_values = ["localhost", "ambit-control.ambit-system.svc", "istiod.istio-system.svc"]
    )]
    pub dns_name: Vec<String>,
    /// Longest life of a workload's certificate: a number and s, m or h
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub certificate_lifetime: String,
    /// Trust domain of identities
    #[arg(long, value_name = "NAME", env = "TRUST_DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    pub trust_domain: String,
    /// Its other names, separated by commas: certificates of them are signed, and what policies say of one name
    /// holds for all
    #[arg(
        long,
        value_name = "NAMES",
        env = "AMBIT_TRUST_DOMAIN_ALIASES",
        default_value = ""
    )]
    pub trust_domain_aliases: String,
    /// Suffix of service names: NAME.NAMESPACE.svc.SUFFIX
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Name of this cluster
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Name of the network of pods for which no label (theirs, their node's, the root namespace's) says another
    #[arg(long, value_name = "NAME", default_value = "")]
    pub network: String,
    /// Policies of this namespace hold in the whole mesh
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ROOT_NAMESPACE)]
    pub root_namespace: String,
}

/// Flags that hold together, and what they point to.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Settings {
    pub place: Place,
    pub xds_address: SocketAddr,
    pub admin_address: SocketAddr,
    pub health_address: Option<SocketAddr>,
    pub ready_file: Option<PathBuf>,
    pub trusted_node_accounts: BTreeSet<String>,
    pub dns_names: Vec<String>,
    pub certificate_lifetime: Duration,
    pub mesh: Mesh,
    /// For people, without secrets.
    pub shown: serde_json::Value,
}

/// Where objects, tokens and the authority come from.
#[derive(Debug)]
pub enum Place {
    /// A folder and files.
    Folder(Box<Folder>),
    /// An API server.
    Kubernetes(Kubernetes),
}

/// A folder of objects, with files of keys.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Folder {
    pub source: PathBuf,
    pub authority: Certificates<OnDisk>,
    /// Where it is published.
    pub published: Option<PathBuf>,
    pub tokens: Tokens,
}

/// What is to be known besides what the API server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Kubernetes {
    pub namespace: String,
    pub identity: String,
    pub token_audiences: Vec<String>,
    pub waypoint_image: Option<String>,
    /// Who signs instead of this installation.
    pub external: Option<External>,
}

/// The value of `--source` that is no folder.
const KUBERNETES: &str = "kubernetes";

/// Everything that is wrong with the flags, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "`ambit control` cannot start:")?;
        for mistake in &self.0 {
            writeln!(f, "  {mistake}")?;
        }
        write!(f, "`ambit control --help` explains the flags.")
    }
}

impl std::error::Error for Mistakes {}

impl Flags {
    /// Checks all flags and reads what they point to. Nothing is written when any of them is wrong.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn check(self) -> Result<Settings, Mistakes> {
        let mut check = Check::default();
        let shown = self.shown();
        let on_kubernetes = self.source.as_os_str() == KUBERNETES;
        if !on_kubernetes && !self.source.is_dir() {
            let source = self.source.display();
            check.wrong("--source", format_args!("{source} is not a folder"));
        }
        let xds_address = check.parse("--xds-address", &self.xds_address, "IP:PORT");
        let admin_address = check.parse("--admin-address", &self.admin_address, "IP:PORT");
        let health_address = self.health_address.as_ref();
        let health_address =
            health_address.map(|text| check.parse("--health-address", text, "IP:PORT"));
        let keys = self.files(on_kubernetes, &mut check);
        for audience in &self.token_audience {
            check.not_empty("--token-audience", audience);
        }
        self.names(on_kubernetes, &mut check);
        let trust_domains = self.trust_domains(&mut check);
        let lifetime = check.ok(
            "--certificate-lifetime",
            duration(&self.certificate_lifetime),
        );
        let external = self.external(on_kubernetes, &mut check);
        let place = self.place(on_kubernetes, keys, external, &mut check);
        let (
            Some(place),
            Some(trust_domains),
            Some(xds_address),
            Some(admin_address),
            None | Some(Some(_)),
            Some(certificate_lifetime),
        ) = (
            place,
            trust_domains,
            xds_address,
            admin_address,
            health_address,
            lifetime,
        )
        else {
            return Err(Mistakes(check.mistakes));
        };
        let service_names = self.service_names();
        let mut dns_names = self.dns_name;
        if on_kubernetes {
            dns_names.extend(service_names);
            dns_names.sort();
            dns_names.dedup();
        }
        Ok(Settings {
            place,
            xds_address,
            admin_address,
            health_address: health_address.flatten(),
            ready_file: self.ready_file,
            trusted_node_accounts: self.trusted_node_account.into_iter().collect(),
            dns_names,
            certificate_lifetime,
            mesh: Mesh {
                trust_domains,
                cluster_domain: self.cluster_domain.into(),
                cluster_id: self.cluster_id.into(),
                network: self.network.into(),
                root_namespace: self.root_namespace.into(),
            },
            shown,
        })
    }

    /// By these proxies ask: node proxies by the first, waypoints by the second.
    fn service_names(&self) -> [String; 2] {
        let name = format!("ambit-control.{}.svc", self.namespace);
        let long = format!("{name}.{}", self.cluster_domain);
        [name, long]
    }

    fn trust_domains(&self, check: &mut Check) -> Option<TrustDomains> {
        let words = |error: TrustDomainError| error.to_string();
        let own = self.trust_domain.parse().map_err(words);
        let own = check.ok("--trust-domain", own);
        let aliases = self.trust_domain_aliases.parse().map_err(words);
        let aliases = check.ok("--trust-domain-aliases", aliases);
        Some(TrustDomains::new(own?, aliases?))
    }

    fn names(&self, on_kubernetes: bool, check: &mut Check) {
        for account in &self.trusted_node_account {
            let parts: Vec<_> = account.split('/').collect();
            if parts.len() != 2 || Identity::new("td", parts[0], parts[1]).is_err() {
                let what = format_args!("{account:?} is not NAMESPACE/NAME");
                check.wrong("--trusted-node-account", what);
            }
        }
        for name in &self.dns_name {
            if !is_host(name) {
                let what = format_args!("{name:?} is not a DNS name or IP address");
                check.wrong("--dns-name", what);
            }
        }
        for (flag, name) in [
            ("--cluster-domain", &self.cluster_domain),
            ("--root-namespace", &self.root_namespace),
        ] {
            if Identity::new(name.as_str(), "ns", "sa").is_err() {
                check.wrong(
                    flag,
                    format_args!("{name:?} is one or more of A-Z a-z 0-9 . _ -"),
                );
            }
        }
        check.not_empty("--cluster-id", &self.cluster_id);
        if on_kubernetes {
            if !is_host(&self.namespace) || self.namespace.contains('.') {
                let what = format_args!("{:?} is not the name of a namespace", self.namespace);
                check.wrong("--namespace", what);
            }
            for (flag, text) in [
                ("--identity", &self.identity),
                ("--waypoint-image", &self.waypoint_image),
            ] {
                if let Some(text) = text {
                    check.not_empty(flag, text);
                }
            }
        }
    }

    fn shown(&self) -> serde_json::Value {
        json!({
            "source": self.source,
            "xds_address": self.xds_address,
            "admin_address": self.admin_address,
            "health_address": self.health_address,
            "namespace": self.namespace,
            "identity": self.identity,
            "waypoint_image": self.waypoint_image,
            "ca_dir": self.ca_dir,
            "publish_dir": self.publish_dir,
            "ca_address": self.ca_address,
            "tls_dir": self.tls_dir,
            "jwks": self.jwks,
            "token_audience": self.token_audience,
            "token_issuer": self.token_issuer,
            "trusted_node_account": self.trusted_node_account,
            "dns_name": self.dns_name,
            "certificate_lifetime": self.certificate_lifetime,
            "trust_domain": self.trust_domain,
            "trust_domain_aliases": self.trust_domain_aliases,
            "cluster_domain": self.cluster_domain,
            "cluster_id": self.cluster_id,
            "network": self.network,
            "root_namespace": self.root_namespace,
        })
    }
}

#[cfg(test)]
mod tests;
