//! `ambit ztunnel` and part of `ambit waypoint`: what a proxy knows, as a table.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::page::page;
use super::table::{Columns, Form};

/// Time for the whole answer.
const PATIENCE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  kubectl -n ambit-system port-forward pod/ztunnel-x7k2p 15000 &
  ambit ztunnel workloads
  lab exec node/node-1 -- ambit ztunnel connections

A proxy answers operators on its own loopback alone, so its port is forwarded, or the command runs where the
proxy does.";

/// Flags of `ambit ztunnel`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// What to show
    #[command(subcommand)]
    pub what: What,
}

/// A part of what a proxy knows.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Shows the pods it knows, with their waypoints.
    Workloads(Place),
    /// Shows the services it knows, with their endpoints and waypoints.
    Services(Place),
    /// Shows the policies it enforces.
    Policies(Place),
    /// Shows the rules of routes that it follows; node proxies have none.
    Routes(Place),
    /// Shows the certificates it holds.
    Certificates(Place),
    /// Shows the connections it carries.
    Connections(Place),
}

/// Which proxy, and how it is shown.
#[derive(Debug, Args)]
pub struct Place {
    /// The proxy's admin address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub address: SocketAddr,
    /// How to show it
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: Form,
}

impl What {
    /// Asks the proxy; the text to print.
    ///
    /// # Errors
    /// It does not answer, or does not know such things.
    pub async fn run(&self) -> anyhow::Result<String> {
        let Place { address, output } = self.place();
        let asked = tokio::time::timeout(PATIENCE, dump(*address)).await;
        let dump = asked
            .with_context(|| format!("{address}: no answer within {PATIENCE:?}"))?
            .with_context(|| format!("{address} is no proxy's admin address"))?;
        let (part, columns) = self.columns();
        let rows = match &dump[part] {
            // Connections are counted even where not all are listed.
            Value::Object(counted) => counted.get("listed").cloned().unwrap_or_default(),
            rows => rows.clone(),
        };
        let Value::Array(rows) = rows else {
            bail!("this proxy does not tell its {part}");
        };
        Ok(output.print(columns, rows))
    }

    fn place(&self) -> &Place {
        match self {
            Self::Workloads(place)
            | Self::Services(place)
            | Self::Policies(place)
            | Self::Routes(place)
            | Self::Certificates(place)
            | Self::Connections(place) => place,
        }
    }

    /// The field of the dump, and the columns of its table: head and JSON pointer.
    fn columns(&self) -> (&'static str, Columns) {
        match self {
            Self::Workloads(_) => (
                "workloads",
                &[
                    ("NAMESPACE", "/namespace"),
                    ("NAME", "/name"),
                    ("ADDRESSES", "/workloadIps"),
                    ("NODE", "/node"),
                    ("TUNNEL", "/protocol"),
                    ("HEALTH", "/status"),
                    ("WAYPOINT", "/waypoint/destination"),
                ],
            ),
            Self::Services(_) => (
                "services",
                &[
                    ("NAMESPACE", "/namespace"),
                    ("HOSTNAME", "/hostname"),
                    ("ADDRESSES", "/vips"),
                    ("ENDPOINTS", "/endpoints"),
                    ("WAYPOINT", "/waypoint/destination"),
                    ("CANARY", "/weightedWaypoints/1/destination/destination"),
                    ("WEIGHT", "/weightedWaypoints/1/weight"),
                ],
            ),
            Self::Policies(_) => (
                "policies",
                &[
                    ("POLICY", "/key"),
                    ("ACTION", "/action"),
                    ("SCOPE", "/scope"),
                    ("RULES", "/rules"),
                    ("DRY RUN", "/dryRun"),
                    ("UNDECODABLE", "/undecodable"),
                ],
            ),
            Self::Routes(_) => (
                "routes",
                &[
                    ("RULE", "/key"),
                    ("PARENTS", "/parents"),
                    ("MATCHES", "/matches"),
                    ("BACKENDS", "/backends"),
                ],
            ),
            Self::Certificates(_) => (
                "certificates",
                &[
                    ("IDENTITY", "/identity"),
                    ("STATE", "/state"),
                    ("VALID FROM", "/certChain/0/validFrom"),
                    ("EXPIRES", "/certChain/0/expirationTime"),
                    ("ROOTS", "/rootCerts"),
                    ("SERIAL", "/certChain/0/serialNumber"),
                    ("ERROR", "/lastError"),
                ],
            ),
            Self::Connections(_) => (
                "connections",
                &[
                    ("DIRECTION", "/direction"),
                    ("SOURCE", "/source"),
                    ("WORKLOAD", "/sourceWorkload"),
                    ("DESTINATION", "/destination"),
                    ("WORKLOAD", "/destinationWorkload"),
                    ("SERVICE", "/destinationService"),
                    ("SECURITY", "/security"),
                    ("SENT", "/bytesFromClient"),
                    ("RECEIVED", "/bytesToClient"),
                    ("SECONDS", "/seconds"),
                ],
            ),
        }
    }
}

async fn dump(address: SocketAddr) -> anyhow::Result<Value> {
    let page = page(address, "/config_dump").await?;
    Ok(serde_json::from_slice(&page)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::table;
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let place = Place {
            address: ([127, 0, 0, 1], 15000).into(),
            output: Form::Table,
        };
        let (_, columns) = What::Policies(place).columns();
        let rows = [
            json!({"key": "shop/a", "action": "Allow", "scope": "Namespace", "rules": [{}], "dryRun": false}),
            json!({"key": "shop/longer", "undecodable": "no"}),
        ];
        let expected = "POLICY       ACTION  SCOPE      RULES  DRY RUN  UNDECODABLE\n\
                        shop/a       Allow   Namespace  1      false    -\n\
                        shop/longer  -       -          -      -        no\n";
        assert_eq!(table(columns, &rows), expected);
    }
}
