//! `ambit install` and `ambit uninstall`: the objects of an installation, for kubectl.

use ambit_core::plan::OutboundTrafficPolicy;
use ambit_core::trust_domain::{Aliases, DEFAULT_TRUST_DOMAIN, TrustDomain};
use clap::Args;

use crate::install::{self, Settings};

const INSTALL: &str = "\
Examples:
  ambit install | kubectl apply -f -
  ambit install --image registry.example/ambit:0.1.0 --replicas 1 | kubectl apply -f -
  ambit install --cni-bin-dir /home/kubernetes/bin | kubectl diff -f -

`ambit check` says what a cluster lacks. `kubectl apply -k manifests/` applies the same objects.";

const UNINSTALL: &str = "\
Examples:
  kubectl -n ambit-system delete daemonset ztunnel --cascade=foreground
  ambit uninstall | kubectl delete --ignore-not-found -f -
  ambit uninstall --crds | kubectl delete --ignore-not-found -f -

The first command comes first, and waits: agents that end with their DaemonSet release the pods of their node and remove the CNI
plugin, and need their rights to take the annotations from the pods. ConfigMaps with the roots of the mesh go after the namespace.";

/// Flags of `ambit install`.
#[derive(Debug, Args)]
#[command(after_help = INSTALL)]
pub struct Flags {
    /// The image of every container
    #[arg(long, value_name = "IMAGE", default_value_t = Settings::default().image, value_parser = image)]
    pub image: String,
    /// Replicas of the control plane
    #[arg(long, value_name = "NUMBER", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub replicas: u32,
    /// The mesh's trust domain
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN)]
    pub trust_domain: TrustDomain,
    /// Its other names, separated by commas, while it is renamed
    #[arg(long, value_name = "NAMES", default_value = "")]
    pub trust_domain_aliases: Aliases,
    /// What pods may connect to: ALLOW_ANY, or with REGISTRY_ONLY what is a service, a ServiceEntry or a workload of the mesh
    #[arg(long, value_name = "MODE", default_value_t)]
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The folder of CNI plugins on nodes
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin", value_parser = folder)]
    pub cni_bin_dir: String,
    /// The folder of CNI configurations on nodes
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d", value_parser = folder)]
    pub cni_conf_dir: String,
    /// Leaves GatewayClasses out, where there are no CRDs of the Gateway API
    #[arg(long)]
    pub no_gateway_classes: bool,
    /// Leaves NetworkPolicies out
    #[arg(long)]
    pub no_network_policies: bool,
}

impl Flags {
    /// The objects, as YAML.
    #[must_use]
    pub fn print(self) -> String {
        install::install(&Settings {
            image: self.image,
            replicas: self.replicas,
            trust_domain: self.trust_domain,
            trust_domain_aliases: self.trust_domain_aliases,
            outbound_traffic_policy: self.outbound_traffic_policy,
            cni_bin_dir: self.cni_bin_dir,
            cni_conf_dir: self.cni_conf_dir,
            gateway_classes: !self.no_gateway_classes,
            network_policies: !self.no_network_policies,
        })
    }
}

/// Flags of `ambit uninstall`.
#[derive(Debug, Args)]
#[command(after_help = UNINSTALL)]
pub struct Uninstall {
    /// The definitions of our kinds too: every object of them goes with its definition
    #[arg(long)]
    pub crds: bool,
}

/// What a container runtime would not take is said here rather than by pods that do not start:
/// `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, the path in small letters.
fn image(text: &str) -> Result<String, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let path = match path.split_once('/') {
        Some((first, path)) if host(first) && is_made_of(first, ".:-[]", true) => path,
        _ => path,
    };
    let part = |part: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        is_made_of(part, "._-", false) && part.starts_with(ends) && part.ends_with(ends)
    };
    let read = path.split('/').all(part)
        && tag.is_none_or(|tag| is_made_of(tag, "._-", true) && !tag.starts_with(['.', '-']))
        && digest.is_none_or(|digest| {
            digest
                .split_once(':')
                .is_some_and(|(by, of)| is_made_of(by, "+._-", true) && is_made_of(of, "", true))
        });
    match read {
        true => Ok(text.to_owned()),
        false => Err(
            "no image is called so; write REGISTRY/ambit:TAG, with the path in small letters"
                .to_owned(),
        ),
    }
}

/// Whether a text is not empty, and of nothing but digits, small letters, these characters, and capitals if they may be.
fn is_made_of(text: &str, others: &str, capitals: bool) -> bool {
    let fits = |c: char| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || others.contains(c)
            || capitals && c.is_ascii_uppercase()
    };
    !text.is_empty() && text.chars().all(fits)
}

fn folder(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("it has to begin with /".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_name_that_can_be_pulled() {
        for good in [
            "ambit",
            "ambit:0.1.0",
            "registry.example/team/ambit",
            "registry.example:5000/ambit:v1_A",
            "localhost/ambit",
            "[::1]:5000/ambit:1",
            "Registry.example/ambit@sha256:0123abcd",
            "registry.example/ambit:1@sha256:0123abcd",
        ] {
            assert_eq!(image(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            " ",
            "ambit: 1",
            "ambit:",
            ":1",
            "/ambit",
            "registry.example/",
            "registry.example//ambit",
            "registry.example/Ambit:1",
            "https://registry.example/ambit",
            "ambit@",
            "ambit@sha256",
            "ambit:-1",
            "-ambit",
            "ambit\nx",
        ] {
            assert!(image(bad).is_err(), "{bad:?}");
        }
    }
}
