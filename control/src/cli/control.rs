//! Flags of `ambit control`: read as texts, checked together, so that every mistake shows at once.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ambit_core::identity::Identity;
use clap::Args;
use serde_json::json;

use crate::ca::{self, Authority};
use crate::tokens::{Tokens, keys::Keys};
use crate::translate::Mesh;

const EXAMPLES: &str = "\
Example:
  ambit control --source ./mesh --ca-dir ./ca --jwks ./jwks.json \\
      --token-issuer https://kubernetes.default.svc --trusted-node-account ambit-system/ztunnel

The source folder holds Kubernetes objects as YAML or JSON, as `kubectl get -o yaml` prints them:
Namespace, Node, Pod (with its status), Service, EndpointSlice, ServiceAccount,
AuthorizationPolicy, PeerAuthentication. The folder is watched. To know when a change is in force:

  curl -X POST 'http://127.0.0.1:15014/sync?timeout=30'

The log is set with RUST_LOG (info), and with LOG_FORMAT=json its lines are JSON.";

/// Flags of `ambit control`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Folder of Kubernetes objects: every *.yaml, *.yml and *.json below it
    #[arg(long, value_name = "DIR")]
    pub source: PathBuf,
    /// Where proxies get configuration and certificates (TLS); port 0 picks a free one
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15012")]
    pub xds_address: String,
    /// Where operators ask (plain HTTP, no authentication: keep it local); port 0 picks a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15014")]
    pub admin_address: String,
    /// File to write once both ports listen: {"xds": "IP:PORT", "admin": "IP:PORT"}
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// The certificate authority: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem; made when
    /// the folder is missing or empty
    #[arg(long, value_name = "DIR")]
    pub ca_dir: PathBuf,
    /// Public keys of the token issuer (JSON Web Key Set); read again when it changes
    #[arg(long, value_name = "FILE")]
    pub jwks: PathBuf,
    /// Audience that tokens must be for; may be given several times
    #[arg(long, value_name = "NAME", default_value = "istio-ca")]
    pub token_audience: Vec<String>,
    /// Issuer of tokens, exactly as their `iss` says
    #[arg(long, value_name = "URL")]
    pub token_issuer: String,
    /// Account of node proxies: they may ask for identities of pods on their own node; may be given
    /// several times
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "ambit-system/ztunnel"
    )]
    pub trusted_node_account: Vec<String>,
    /// Name (DNS or IP) in the server certificate; may be given several times
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
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Suffix of service names: NAME.NAMESPACE.svc.SUFFIX
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Name of this cluster
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Name of the network that pods are on
    #[arg(long, value_name = "NAME", default_value = "")]
    pub network: String,
    /// Policies of this namespace hold in the whole mesh
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub root_namespace: String,
}

/// Flags that hold together, and what they point to.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Settings {
    pub source: PathBuf,
    pub xds_address: SocketAddr,
    pub admin_address: SocketAddr,
    pub ready_file: Option<PathBuf>,
    pub authority: Authority,
    pub tokens: Tokens,
    pub trusted_node_accounts: BTreeSet<String>,
    pub dns_names: Vec<String>,
    pub certificate_lifetime: Duration,
    pub mesh: Mesh,
    /// For people, without secrets.
    pub shown: serde_json::Value,
}

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
        if !self.source.is_dir() {
            let source = self.source.display();
            check.wrong("--source", format_args!("{source} is not a folder"));
        }
        let xds_address = check.parse("--xds-address", &self.xds_address, "IP:PORT");
        let admin_address = check.parse("--admin-address", &self.admin_address, "IP:PORT");
        let keys = check.ok("--jwks", Keys::read(self.jwks));
        check.not_empty("--token-issuer", &self.token_issuer);
        for audience in &self.token_audience {
            check.not_empty("--token-audience", audience);
        }
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
        let lifetime = check.ok(
            "--certificate-lifetime",
            duration(&self.certificate_lifetime),
        );
        for (flag, name) in [
            ("--trust-domain", &self.trust_domain),
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
        // Only now: this may write the folder.
        let authority = if check.mistakes.is_empty() {
            check.ok(
                "--ca-dir",
                ca::files::load_or_make(&self.ca_dir, &self.trust_domain),
            )
        } else {
            None
        };
        match (xds_address, admin_address, keys, lifetime, authority) {
            (
                Some(xds_address),
                Some(admin_address),
                Some(keys),
                Some(certificate_lifetime),
                Some(authority),
            ) => Ok(Settings {
                source: self.source,
                xds_address,
                admin_address,
                ready_file: self.ready_file,
                authority,
                tokens: Tokens::new(keys, self.token_issuer, self.token_audience),
                trusted_node_accounts: self.trusted_node_account.into_iter().collect(),
                dns_names: self.dns_name,
                certificate_lifetime,
                mesh: Mesh {
                    trust_domain: self.trust_domain.into(),
                    cluster_domain: self.cluster_domain.into(),
                    cluster_id: self.cluster_id.into(),
                    network: self.network.into(),
                    root_namespace: self.root_namespace.into(),
                },
                shown,
            }),
            _ => Err(Mistakes(check.mistakes)),
        }
    }

    fn shown(&self) -> serde_json::Value {
        json!({
            "source": self.source,
            "xds_address": self.xds_address,
            "admin_address": self.admin_address,
            "ca_dir": self.ca_dir,
            "jwks": self.jwks,
            "token_audience": self.token_audience,
            "token_issuer": self.token_issuer,
            "trusted_node_account": self.trusted_node_account,
            "dns_name": self.dns_name,
            "certificate_lifetime": self.certificate_lifetime,
            "trust_domain": self.trust_domain,
            "cluster_domain": self.cluster_domain,
            "cluster_id": self.cluster_id,
            "network": self.network,
            "root_namespace": self.root_namespace,
        })
    }
}

#[derive(Default)]
struct Check {
    mistakes: Vec<String>,
}

impl Check {
    fn wrong(&mut self, flag: &str, what: impl Display) {
        self.mistakes.push(format!("{flag}: {what}"));
    }

    fn ok<T>(&mut self, flag: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|error| self.wrong(flag, error)).ok()
    }

    fn parse<T: FromStr>(&mut self, flag: &str, text: &str, form: &str) -> Option<T> {
        self.ok(
            flag,
            text.parse().map_err(|_| format!("{text:?} is not {form}")),
        )
    }

    fn not_empty(&mut self, flag: &str, text: &str) {
        if text.is_empty() {
            self.wrong(flag, "is empty");
        }
    }
}

fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)
    };
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

/// `90s`, `15m` or `24h`: at least a second, at most ten years.
fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is not a number and s, m or h, such as 24h");
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        _ => return Err(error()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| error())?;
    let seconds = number.checked_mul(unit).ok_or_else(error)?;
    if !(1..=10 * 365 * 24 * 3600).contains(&seconds) {
        return Err(format!("{text:?} is not between 1s and 87600h"));
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("10s", Some(10)),
            ("15m", Some(900)),
            ("24h", Some(86_400)),
            ("0s", None),
            ("24", None),
            ("h", None),
            ("-1h", None),
            ("1d", None),
            ("", None),
            ("1é", None),
            ("99999999999999999999h", None),
            ("9999999h", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn all_mistakes_show_at_once_and_nothing_is_written() {
        let base = tempfile::tempdir().expect("a folder");
        let ca = base.path().join("ca");
        let cli = Cli::try_parse_from([
            "ambit",
            "control",
            "--source=/does/not/exist",
            "--xds-address=nowhere",
            "--admin-address=127.0.0.1",
            &format!("--ca-dir={}", ca.display()),
            "--jwks=/does/not/exist.json",
            "--token-issuer=",
            "--token-audience=",
            "--trusted-node-account=ztunnel",
            "--dns-name=a b",
            "--certificate-lifetime=1d",
            "--trust-domain=a/b",
        ])
        .expect("clap takes texts");
        let Some(Command::Control(flags)) = cli.command else {
            panic!("control");
        };
        let mistakes = flags.check().expect_err("mistakes").0;
        let flags: Vec<_> = mistakes
            .iter()
            .map(|m| m.split(':').next().unwrap_or_default())
            .collect();
        assert_eq!(
            flags,
            [
                "--source",
                "--xds-address",
                "--admin-address",
                "--jwks",
                "--token-issuer",
                "--token-audience",
                "--trusted-node-account",
                "--dns-name",
                "--certificate-lifetime",
                "--trust-domain"
            ]
        );
        assert!(!ca.exists());
    }
}
