//! What all proxies of a mesh are told alike, and so a machine's: what the DaemonSet of the node proxies says, unless flags do.

use std::fmt::Display;
use std::str::FromStr;

use ambit_core::index::DEFAULT_ROOT_NAMESPACE;
use ambit_core::plan::OutboundTrafficPolicy;
use ambit_core::trust_domain::{Aliases, TrustDomain};
use clap::Args;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Container;

use crate::check::PROXIES;
use crate::cli::environment;
use crate::cluster::{Cluster, Failure};
use crate::translate::Mesh;

/// The node proxy's container in its DaemonSet.
const CONTAINER: &str = "ztunnel";

/// What is said of the mesh.
#[derive(Debug, Clone, Default, Args)]
pub struct Said {
    /// The mesh's trust domain
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// Its other names, separated by commas, while it is renamed
    #[arg(long, value_name = "NAMES")]
    pub trust_domain_aliases: Option<Aliases>,
    /// What the machine may connect to: ALLOW_ANY, or with REGISTRY_ONLY what is a service, a ServiceEntry or a workload of the mesh
    #[arg(long, value_name = "MODE")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Name of the cluster, as control's
    #[arg(long, value_name = "NAME", value_parser = word)]
    pub cluster_id: Option<String>,
    /// Suffix of service names, as control's
    #[arg(long, value_name = "NAME", value_parser = word)]
    pub cluster_domain: Option<String>,
    /// Policies of this namespace hold in the whole mesh, as control has it
    #[arg(long, value_name = "NAME", value_parser = word)]
    pub root_namespace: Option<String>,
}

/// A variable of proxies.
struct Variable {
    name: &'static str,
    /// Another name of it, which goes first.
    also: Option<&'static str>,
    /// Its value where nobody says another.
    default: fn() -> String,
    flag: &'static str,
    said: fn(&Said) -> Option<String>,
    /// The value as a machine's file has it.
    read: fn(&str) -> Result<String, String>,
}

const VARIABLES: [Variable; 6] = [
    Variable {
        name: "TRUST_DOMAIN",
        also: None,
        default: || TrustDomain::default().to_string(),
        flag: "--trust-domain",
        said: |said| said.trust_domain.as_ref().map(ToString::to_string),
        read: parsed::<TrustDomain>,
    },
    Variable {
        name: "AMBIT_TRUST_DOMAIN_ALIASES",
        also: None,
        default: || Aliases::default().to_string(),
        flag: "--trust-domain-aliases",
        said: |said| said.trust_domain_aliases.as_ref().map(ToString::to_string),
        read: parsed::<Aliases>,
    },
    Variable {
        name: "AMBIT_OUTBOUND_TRAFFIC_POLICY",
        also: None,
        default: || OutboundTrafficPolicy::default().to_string(),
        flag: "--outbound-traffic-policy",
        said: |said| said.outbound_traffic_policy.map(|it| it.to_string()),
        read: parsed::<OutboundTrafficPolicy>,
    },
    Variable {
        name: "CLUSTER_ID",
        also: Some("ISTIO_META_CLUSTER_ID"),
        default: || Mesh::default().cluster_id.to_string(),
        flag: "--cluster-id",
        said: |said| said.cluster_id.clone(),
        read: word,
    },
    Variable {
        name: "CLUSTER_DOMAIN",
        also: None,
        default: || Mesh::default().cluster_domain.to_string(),
        flag: "--cluster-domain",
        said: |said| said.cluster_domain.clone(),
        read: word,
    },
    Variable {
        name: "AMBIT_ROOT_NAMESPACE",
        also: None,
        default: || DEFAULT_ROOT_NAMESPACE.to_owned(),
        flag: "--root-namespace",
        said: |said| said.root_namespace.clone(),
        read: word,
    },
];

fn parsed<T: FromStr<Err: Display> + ToString>(text: &str) -> Result<String, String> {
    let value = text.parse::<T>().map_err(|error| error.to_string())?;
    Ok(value.to_string())
}

/// A name that a file of an environment takes as it stands.
pub(super) fn word(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("expected a name without spaces and quotes".to_owned()),
    }
}

/// Variables and their values.
pub(super) type Told = Vec<(&'static str, String)>;

impl Said {
    /// What a machine is told where nobody but flags says anything.
    pub(super) fn alone(&self) -> Told {
        let value = |it: &Variable| (it.said)(self).unwrap_or_else(it.default);
        VARIABLES.iter().map(|it| (it.name, value(it))).collect()
    }

    /// What a machine is told in a cluster: as its node proxies are, but for what flags say.
    ///
    /// # Errors
    /// What is not known, and the flags that say it: a guess could open what is closed elsewhere.
    pub(super) async fn of_running(&self, cluster: &Cluster) -> Result<Told, String> {
        let unsaid: Vec<&Variable> = VARIABLES
            .iter()
            .filter(|it| (it.said)(self).is_none())
            .collect();
        if unsaid.is_empty() {
            return Ok(self.alone());
        }
        let known = cluster.read::<DaemonSet>(PROXIES).await;
        let container = known.map_err(|failure| cause(&failure)).and_then(|found| {
            let template = found.spec.as_ref().map(|it| &it.template);
            environment::container(template, CONTAINER).cloned()
        });
        let container = container.map_err(|why| {
            let flags: Vec<&str> = unsaid.iter().map(|it| it.flag).collect();
            let flags = flags.join(", ");
            format!(
                "DaemonSet ambit-system/ztunnel, whose proxies are told what a machine's is: {why}; say it with {flags}"
            )
        })?;
        let (mut told, mut wrong) = (Told::new(), Vec::new());
        for variable in &VARIABLES {
            let said = (variable.said)(self);
            match said.map_or_else(|| variable.of(&container), Ok) {
                Ok(value) => told.push((variable.name, value)),
                Err(why) => wrong.push(format!(
                    "DaemonSet ambit-system/ztunnel: {why}; {} says it",
                    variable.flag
                )),
            }
        }
        match wrong.is_empty() {
            true => Ok(told),
            false => Err(wrong.join("\n")),
        }
    }
}

impl Variable {
    /// Its value in a container.
    fn of(&self, container: &Container) -> Result<String, String> {
        for name in self.also.into_iter().chain([self.name]) {
            let found = environment::variable(container, name)?;
            // What is empty says nothing, as proxies read it.
            if let Some(value) = found.map(str::trim).filter(|it| !it.is_empty()) {
                return (self.read)(value).map_err(|why| format!("{name}: {why}"));
            }
        }
        Ok((self.default)())
    }
}

/// Why something was not read, in one line.
pub(super) fn cause(failure: &Failure) -> String {
    match failure.status() {
        Some(404) => "there is none".to_owned(),
        _ => failure.to_string(),
    }
}
