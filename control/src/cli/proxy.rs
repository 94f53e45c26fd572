//! `ambit ztunnel` and `ambit waypoint`: what a proxy knows, as a table.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Time for the whole answer.
const PATIENCE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  kubectl -n ambit-system port-forward pod/ztunnel-x7k2p 15000 &
  ambit ztunnel workloads
  kubectl -n shop port-forward deploy/waypoint 15000 &
  ambit waypoint routes --output json
  lab exec node/node-1 -- ambit ztunnel connections

A proxy answers operators on its own loopback alone, so its port is forwarded, or the command runs where the
proxy does.";

/// Flags of both commands.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// What to show
    pub what: What,
    /// The proxy's admin address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub address: SocketAddr,
    /// How to show it
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: Form,
}

/// A part of what a proxy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum What {
    Workloads,
    Services,
    Policies,
    Routes,
    Certificates,
    Connections,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Form {
    Table,
    Json,
}

impl Flags {
    /// Asks the proxy; the text to print.
    ///
    /// # Errors
    /// It does not answer, or does not know such things.
    pub async fn run(&self) -> anyhow::Result<String> {
        let asked = tokio::time::timeout(PATIENCE, fetch(self.address)).await;
        let dump = asked
            .with_context(|| format!("{}: no answer within {PATIENCE:?}", self.address))?
            .with_context(|| format!("{} is no proxy's admin address", self.address))?;
        let (part, columns) = self.what.columns();
        let rows = match &dump[part] {
            // Connections are counted even where not all are listed.
            Value::Object(counted) => counted.get("listed").cloned().unwrap_or_default(),
            rows => rows.clone(),
        };
        let Value::Array(rows) = rows else {
            bail!("this proxy does not tell its {part}");
        };
        Ok(match self.output {
            Form::Json => format!("{:#}\n", Value::Array(rows)),
            Form::Table => table(columns, &rows),
        })
    }
}

type Columns = &'static [(&'static str, &'static str)];

impl What {
    /// The field of the dump, and the columns of its table: head and JSON pointer.
    fn columns(self) -> (&'static str, Columns) {
        match self {
            Self::Workloads => (
                "workloads",
                &[
                    ("NAMESPACE", "/namespace"),
                    ("NAME", "/name"),
                    ("ADDRESSES", "/addresses"),
                    ("NODE", "/node"),
                    ("TUNNEL", "/tunnel_protocol"),
                    ("HEALTH", "/health"),
                    ("WAYPOINT", "/waypoint/destination"),
                ],
            ),
            Self::Services => (
                "services",
                &[
                    ("SERVICE", "/key"),
                    ("ADDRESSES", "/vips"),
                    ("ENDPOINTS", "/endpoints"),
                    ("WAYPOINT", "/waypoint/destination"),
                ],
            ),
            Self::Policies => (
                "policies",
                &[
                    ("POLICY", "/key"),
                    ("ACTION", "/action"),
                    ("SCOPE", "/scope"),
                    ("RULES", "/rules"),
                    ("DRY RUN", "/dry_run"),
                    ("UNDECODABLE", "/undecodable"),
                ],
            ),
            Self::Routes => (
                "routes",
                &[
                    ("RULE", "/key"),
                    ("PARENTS", "/parents"),
                    ("MATCHES", "/matches"),
                    ("BACKENDS", "/backends"),
                ],
            ),
            Self::Certificates => (
                "certificates",
                &[
                    ("IDENTITY", "/identity"),
                    ("STATE", "/state"),
                    ("VALID FROM", "/certChain/validFrom"),
                    ("EXPIRES", "/certChain/expirationTime"),
                    ("SERIAL", "/certChain/serialNumber"),
                    ("ERROR", "/lastError"),
                ],
            ),
            Self::Connections => (
                "connections",
                &[
                    ("DIRECTION", "/direction"),
                    ("SOURCE", "/source"),
                    ("WORKLOAD", "/sourceWorkload"),
                    ("DESTINATION", "/destination"),
                    ("WORKLOAD", "/destinationWorkload"),
                    ("SECURITY", "/security"),
                    ("SENT", "/bytesFromClient"),
                    ("RECEIVED", "/bytesToClient"),
                    ("SECONDS", "/seconds"),
                ],
            ),
        }
    }
}

fn table(columns: Columns, rows: &[Value]) -> String {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for row in rows {
        let cell = |(_, pointer): &(&str, &str)| cell(row.pointer(pointer));
        lines.push(columns.iter().map(cell).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths);
        let padded: Vec<_> = padded
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A value in one word, or in few. Lists of objects are counted, but for addresses.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        Some(Value::Array(all)) if all.iter().all(Value::is_string) && all.len() <= 2 => {
            let words: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            if words.is_empty() {
                "-".to_owned()
            } else {
                words.join(",")
            }
        }
        Some(Value::Array(all)) if all.iter().all(|one| one["net"].is_string()) => {
            let nets: Vec<_> = all.iter().filter_map(|one| one["net"].as_str()).collect();
            let alone = |net: &&str| net.split('/').next().unwrap_or_default().to_owned();
            let alone: Vec<_> = nets.iter().map(alone).collect();
            if alone.is_empty() {
                "-".to_owned()
            } else {
                alone.join(",")
            }
        }
        Some(Value::Array(all)) => all.len().to_string(),
        Some(Value::Object(fields)) => {
            let words: Vec<_> = fields.values().map(|value| cell(Some(value))).collect();
            words.join("/")
        }
        Some(other) => other.to_string(),
    }
}

async fn fetch(address: SocketAddr) -> anyhow::Result<Value> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let request = Request::get("/config_dump")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        bail!("it answers {}", answer.status());
    }
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_short() {
        let rows = [
            (Value::Null, "-"),
            (json!(""), "-"),
            (json!("a"), "a"),
            (json!(true), "true"),
            (json!(1.26), "1.3"),
            (json!([]), "-"),
            (json!(["10.0.0.1", "fd00::1"]), "10.0.0.1,fd00::1"),
            (json!(["a", "b", "c"]), "3"),
            (json!([{"network": "", "net": "10.0.0.1/32"}]), "10.0.0.1"),
            (json!([{"from": []}, {}]), "2"),
            (json!({"Hostname": "shop/w"}), "shop/w"),
        ];
        for (value, expected) in rows {
            assert_eq!(cell(Some(&value)), expected, "{value}");
        }
    }

    #[test]
    fn columns_are_aligned() {
        let (_, columns) = What::Policies.columns();
        let rows = [
            json!({"key": "shop/a", "action": "Allow", "scope": "Namespace", "rules": [{}], "dry_run": false}),
            json!({"key": "shop/longer", "undecodable": "no"}),
        ];
        let expected = "POLICY       ACTION  SCOPE      RULES  DRY RUN  UNDECODABLE\n\
                        shop/a       Allow   Namespace  1      false    -\n\
                        shop/longer  -       -          -      -        no\n";
        assert_eq!(table(columns, &rows), expected);
    }
}
