//! `ambit waypoint list`.

use clap::Args;
use serde_json::{Value, json};

use super::{Bound, progress, waypoints};
use crate::cli::table::{Columns, Form};
use crate::cluster::Cluster;
use crate::translate::labels::WAYPOINT_FOR;

/// Flags of `ambit waypoint list`.
#[derive(Debug, Args)]
pub struct Flags {
    /// A namespace [default: that of kubectl's context]
    #[arg(long, short, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Of all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// How to show them
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: Form,
}

const COLUMNS: Columns = &[
    ("NAMESPACE", "/namespace"),
    ("NAME", "/name"),
    ("FOR", "/for"),
    ("READY", "/ready"),
    ("ADDRESS", "/address"),
    ("BOUND", "/bound"),
    ("REASON", "/reason"),
];

impl Flags {
    /// The text to print.
    pub(super) async fn run(&self, cluster: &Cluster, of: &str) -> anyhow::Result<String> {
        let of = (!self.all_namespaces).then_some(of);
        let found = waypoints(cluster, of).await?;
        let bound = Bound::read(cluster).await?;
        let rows: Vec<Value> = found.iter().map(|gateway| row(gateway, &bound)).collect();
        if rows.is_empty() && self.output == Form::Table {
            let place = of.map_or_else(String::new, |of| format!(" in namespace {of}"));
            return Ok(format!("There are no waypoints{place}.\n"));
        }
        Ok(self.output.print(COLUMNS, rows))
    }
}

/// One waypoint.
pub(super) fn row(gateway: &Value, bound: &Bound) -> Value {
    let metadata = &gateway["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let serves = metadata["labels"][WAYPOINT_FOR].as_str();
    let (ready, address, reason) = match progress(gateway) {
        Ok(address) => (true, address, String::new()),
        Err(reason) => (false, String::new(), reason),
    };
    json!({
        "namespace": namespace,
        "name": name,
        "for": serves.unwrap_or("service"),
        "ready": ready,
        "address": address,
        "bound": bound.to(&namespace, &name),
        "reason": reason,
    })
}
