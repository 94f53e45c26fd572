//! `ambit waypoint`: the waypoints of a cluster, and what one of them knows.

mod apply;
mod delete;
mod list;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::proxy::{self, Part};
use crate::cluster::collection::path;
use crate::cluster::{Cluster, Failure, escaped};
use crate::translate::labels::{
    USE_WAYPOINT, USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE, USE_WAYPOINT_NAMESPACE,
};
use crate::translate::waypoint::CLASSES;

const EXAMPLES: &str = "\
Examples:
  ambit waypoint apply --namespace shop --enroll-namespace
  ambit waypoint list -A
  ambit waypoint delete --namespace shop
  ambit waypoint routes waypoint --namespace shop
  ambit waypoint connections waypoint-5d8c7f4b9-2xkqp --namespace shop

A waypoint is a Gateway; the control plane deploys what runs it. Whatever is bound to a waypoint by the label
istio.io/use-waypoint is reached through it or not at all. What a waypoint knows is read by a port that the API server
forwards to one of its pods, which needs the rights to list pods and to get and create pods/portforward. Without a name, a
namespace or an address, what listens at 127.0.0.1:15000 is asked, else the only waypoint of the namespace.";

/// Flags of `ambit waypoint`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with waypoints.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a waypoint, or changes one.
    Apply(apply::Flags),
    /// Lists waypoints: whether they are ready, and what is bound to them.
    List(list::Flags),
    /// Removes waypoints that nothing is bound to.
    Delete(delete::Flags),
    /// Shows the rules of routes that it follows.
    Routes(proxy::Waypoint),
    #[allow(missing_docs)]
    #[command(flatten)]
    Shows(proxy::What<proxy::Waypoint>),
}

impl Flags {
    /// Does it; the text to print.
    ///
    /// # Errors
    /// The API server, or the proxy, does not do what is asked.
    pub async fn run(&self) -> anyhow::Result<String> {
        match &self.command {
            Command::Routes(waypoint) => waypoint.show(Part::Routes).await,
            Command::Shows(what) => {
                let (part, waypoint) = what.parts();
                waypoint.show(part).await
            }
            Command::Apply(flags) => {
                let (cluster, namespace) = connect(flags.namespace.as_ref()).await?;
                flags.run(&cluster, &namespace).await
            }
            Command::List(flags) => {
                let (cluster, namespace) = connect(flags.namespace.as_ref()).await?;
                flags.run(&cluster, &namespace).await
            }
            Command::Delete(flags) => {
                let (cluster, namespace) = connect(flags.namespace.as_ref()).await?;
                flags.run(&cluster, &namespace).await
            }
        }
    }
}

/// The API server, and the namespace that is meant: that of the flag, else of kubectl's context.
async fn connect(namespace: Option<&String>) -> anyhow::Result<(Cluster, String)> {
    let none = |error| anyhow!("there is no API server to ask: {error}");
    let (cluster, own) = Cluster::of_operator().await.map_err(none)?;
    Ok((cluster, namespace.cloned().unwrap_or(own)))
}

/// Where the API server has the Gateways of a namespace, or of all.
fn gateways(namespace: Option<&str>) -> String {
    path("gateway.networking.k8s.io", "v1", namespace, "gateways")
}

fn gateway(namespace: &str, name: &str) -> String {
    format!("{}/{}", gateways(Some(namespace)), escaped(name))
}

fn namespace(name: &str) -> String {
    format!("/api/v1/namespaces/{}", escaped(name))
}

/// The waypoints of a namespace, or of all.
async fn waypoints(cluster: &Cluster, namespace: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let all = match cluster.list(&gateways(namespace)).await {
        Err(failure) if failure.status() == Some(404) => return Err(unknown()),
        all => all?,
    };
    let is_ours = |gateway: &Value| {
        let class = gateway["spec"]["gatewayClassName"].as_str();
        class.is_some_and(|class| CLASSES.contains(&class))
    };
    Ok(all.into_iter().filter(is_ours).collect())
}

fn unknown() -> anyhow::Error {
    anyhow!(
        "the cluster does not know Gateways: kubectl apply --server-side -k manifests/external-crds"
    )
}

/// The labels that bind to a waypoint, and to its canary, each with the one that names its namespace.
const BINDING: [(&str, &str); 2] = [
    (USE_WAYPOINT, USE_WAYPOINT_NAMESPACE),
    (USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE),
];

/// What has a label that binds to a waypoint, in the whole cluster.
struct Bound(Vec<(String, Reference)>);

#[derive(Debug, PartialEq, Eq)]
struct Reference {
    namespace: String,
    name: String,
}

impl Bound {
    async fn read(cluster: &Cluster) -> Result<Self, Failure> {
        let mut bound = Vec::new();
        for by in BINDING {
            let labelled = format!("?labelSelector={}", escaped(by.0));
            for plural in ["namespaces", "services"] {
                let all = format!("{}{labelled}", path("", "v1", None, plural));
                let found = cluster.list(&all).await?;
                bound.extend(found.iter().filter_map(|object| of(plural, by, object)));
            }
        }
        Ok(Self(bound))
    }

    /// The namespaces and services that are bound to a waypoint.
    fn to(&self, namespace: &str, name: &str) -> Vec<&str> {
        let is = |to: &Reference| to.namespace == namespace && to.name == name;
        let found = self.0.iter().filter(|(_, to)| is(to));
        found.map(|(who, _)| who.as_str()).collect()
    }
}

/// `Kind NAME` of an object, and the waypoint that one of its labels names.
fn of(
    plural: &str,
    (by, in_namespace): (&str, &str),
    object: &Value,
) -> Option<(String, Reference)> {
    let metadata = &object["metadata"];
    let label = |label: &str| metadata["labels"][label].as_str();
    let own = metadata["name"].as_str()?;
    let (who, namespace) = match metadata["namespace"].as_str() {
        Some(namespace) => (format!("service {namespace}/{own}"), namespace),
        None if plural == "namespaces" => (format!("namespace {own}"), own),
        None => return None,
    };
    let name = label(by).filter(|name| !matches!(*name, "" | "none"))?;
    let reference = Reference {
        namespace: label(in_namespace).unwrap_or(namespace).to_owned(),
        name: name.to_owned(),
    };
    Some((who, reference))
}

/// How a Gateway is: its address once an instance serves, else what it waits for.
fn progress(gateway: &Value) -> Result<String, String> {
    let status = &gateway["status"];
    let condition = |name: &str| {
        let mut all = status["conditions"].as_array().into_iter().flatten();
        all.find(|condition| condition["type"] == name)
    };
    let current = |condition: &&Value| {
        condition["observedGeneration"].as_i64() >= gateway["metadata"]["generation"].as_i64()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = ["Accepted", "Programmed"].map(|name| condition(name).filter(current));
    for condition in said {
        match condition {
            None => {
                return Err(
                    "the control plane has said nothing of it (`ambit check` looks at it)"
                        .to_owned(),
                );
            }
            Some(condition) if condition["status"] != "True" => {
                let (reason, message) = (&condition["reason"], &condition["message"]);
                return Err(format!("{}: {}", text(reason), text(message)));
            }
            Some(_) => {}
        }
    }
    Ok(text(&status["addresses"][0]["value"]))
}

#[cfg(test)]
mod tests;
