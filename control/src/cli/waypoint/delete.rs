//! `ambit waypoint delete`.

use anyhow::{Context, bail};
use clap::Args;

use super::{Bound, gateway, waypoints};
use crate::cluster::Cluster;

/// Flags of `ambit waypoint delete`.
#[derive(Debug, Args)]
pub struct Flags {
    /// The names of the waypoints
    #[arg(required_unless_present = "all")]
    pub names: Vec<String>,
    /// All of the namespace
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Their namespace [default: that of kubectl's context]
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Also those that something is bound to, which is refused to everyone from then on
    #[arg(long)]
    pub force: bool,
}

impl Flags {
    /// Removes them, or none of them; the text to print.
    pub(super) async fn run(&self, cluster: &Cluster, of: &str) -> anyhow::Result<String> {
        let there = waypoints(cluster, Some(of)).await?;
        let mut chosen = Vec::new();
        for gateway in &there {
            let metadata = &gateway["metadata"];
            let (name, uid) = (&metadata["name"], &metadata["uid"]);
            if let (Some(name), Some(uid)) = (name.as_str(), uid.as_str())
                && (self.all || self.names.iter().any(|wanted| wanted == name))
            {
                chosen.push((name, uid));
            }
        }
        let is_chosen = |name: &&String| chosen.iter().any(|(chosen, _)| chosen == name);
        let missing: Vec<_> = self.names.iter().filter(|name| !is_chosen(name)).collect();
        if !missing.is_empty() {
            bail!("namespace {of} has no waypoint {missing:?}");
        }
        if !self.force {
            let bound = Bound::read(cluster).await?;
            for (name, _) in &chosen {
                let bound = bound.to(of, name);
                if !bound.is_empty() {
                    bail!(
                        "waypoint {of}/{name} is what {} reached through: take the label istio.io/use-waypoint (or \
                         istio.io/use-waypoint-canary) off first, or use --force",
                        listed(&bound)
                    );
                }
            }
        }
        let mut said = String::new();
        for (name, uid) in chosen {
            let deleted = cluster.delete(&gateway(of, name), uid).await;
            deleted.with_context(|| format!("waypoint {of}/{name}"))?;
            said.push_str(&format!("waypoint {of}/{name} deleted\n"));
        }
        Ok(said)
    }
}

fn listed(bound: &[&str]) -> String {
    const SHOWN: usize = 3;
    let more = bound.len().saturating_sub(SHOWN);
    let shown = bound[..bound.len() - more].join(", ");
    match (bound.len(), more) {
        (1, _) => format!("{shown} is"),
        (_, 0) => format!("{shown} are"),
        _ => format!("{shown} and {more} more are"),
    }
}
