//! `ambit top`: asks every proxy for its metrics, again and again.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::page;
use super::table::{Columns, Form, table};
use crate::cluster::collection::path;
use crate::cluster::{Cluster, escaped};
use crate::top::{Look, Pair, Party, Protection, pairs};
use crate::translate::waypoint::CLASSES;
use crate::waypoints::{GATEWAY_CLASS, METRICS_PORT};

/// Time for one proxy's answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Proxies that are asked at the same time.
const TOGETHER: usize = 16;
const METRICS: &str = "/stats/prometheus";
/// Clears the screen: cursor home, erase below.
const CLEAR: &str = "\x1b[H\x1b[J";

const EXAMPLES: &str = "\
Examples:
  ambit top
  ambit top --namespace shop --once
  ambit top --once --output json
  lab exec node/node-1 -- ambit top --address 127.0.0.1:15020

Proxies are asked through the API server, which needs the right to get pods/proxy, or at the addresses that are given.
The rate is of connections, and of requests where a waypoint sees them; success is of connections that were made and of
responses below 500.";

/// Flags of `ambit top`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Who talks in this namespace, or to it
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Where a proxy shows its metrics, instead of all proxies of the cluster; may be given several times
    #[arg(long, value_name = "IP:PORT")]
    pub address: Vec<SocketAddr>,
    /// Namespace of the installation
    #[arg(long, value_name = "NAME", default_value = "ambit-system")]
    pub system: String,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Two looks, one table
    #[arg(long)]
    pub once: bool,
    /// How to show it; JSON is a line a look
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: Form,
}

const COLUMNS: Columns = &[
    ("SOURCE", "/source"),
    ("DESTINATION", "/destination"),
    ("PROTOCOL", "/protocol"),
    ("RATE", "/rate"),
    ("SUCCESS", "/success"),
    ("P50 MS", "/p50"),
    ("P99 MS", "/p99"),
    ("BYTES/S", "/bytes"),
    ("PROTECTED BY", "/protection"),
];

impl Flags {
    /// Shows it, until Ctrl-C unless it is for once.
    ///
    /// # Errors
    /// No proxy answers, or nobody reads.
    pub async fn run(&self) -> anyhow::Result<()> {
        let proxies = self.proxies().await?;
        let interval = Duration::from_secs(self.interval);
        let (mut before, mut at, _) = self.look(&proxies).await?;
        loop {
            sleep_until(at + interval).await;
            let (after, now, silent) = self.look(&proxies).await?;
            let text = self.shown(pairs(&before, &after, now - at), &silent);
            let clear = match self.output {
                Form::Table if !self.once => CLEAR,
                _ => "",
            };
            std::io::stdout().write_all(format!("{clear}{text}").as_bytes())?;
            if self.once {
                return Ok(());
            }
            (before, at) = (after, now);
        }
    }

    fn shown(&self, mut pairs: Vec<Pair>, silent: &[String]) -> String {
        if let Some(namespace) = &self.namespace {
            let is = |party: &Party| party.namespace == *namespace;
            pairs.retain(|pair| is(&pair.source) || is(&pair.destination));
        }
        match self.output {
            Form::Json => format!("{}\n", json!({"pairs": pairs, "silent": silent})),
            Form::Table => {
                let rows: Vec<Value> = pairs.iter().map(row).collect();
                let silent = silent.iter().map(|why| format!("{why}\n"));
                silent.fold(table(COLUMNS, &rows), |text, line| text + &line)
            }
        }
    }

    async fn proxies(&self) -> anyhow::Result<Vec<Proxy>> {
        if !self.address.is_empty() {
            let given = self.address.iter().map(|address| Proxy::At(*address));
            return Ok(given.collect());
        }
        let none = |error| anyhow!("there is no API server to ask, and no --address: {error}");
        let (cluster, _) = Cluster::of_operator().await.map_err(none)?;
        let node_proxies = format!(
            "{}?labelSelector=app.kubernetes.io%2Fname%3Dztunnel",
            path("", "v1", Some(&self.system), "pods")
        );
        let classes = escaped(&format!("{GATEWAY_CLASS} in ({})", CLASSES.join(",")));
        let waypoints = format!("{}?labelSelector={classes}", path("", "v1", None, "pods"));
        let mut found = Vec::new();
        for all in [node_proxies, waypoints] {
            let pods = cluster.list(&all).await?;
            let running = pods
                .iter()
                .filter(|pod| pod["status"]["phase"] == "Running");
            found.extend(running.filter_map(|pod| {
                let text = |field: &str| pod["metadata"][field].as_str().map(str::to_owned);
                Some(Proxy::Pod {
                    cluster: cluster.clone(),
                    namespace: text("namespace")?,
                    name: text("name")?,
                })
            }));
        }
        if found.is_empty() {
            bail!(
                "there are no proxies: is Ambit in namespace {}? (`ambit check`)",
                self.system
            );
        }
        Ok(found)
    }

    /// What all proxies show now, and why some do not.
    async fn look(&self, proxies: &[Proxy]) -> anyhow::Result<(Look, Instant, Vec<String>)> {
        let asked = stream::iter(proxies).map(|proxy| async move { (proxy, proxy.page().await) });
        let answers: Vec<_> = asked.buffer_unordered(TOGETHER).collect().await;
        let mut look = Look::default();
        let mut silent = Vec::new();
        for (proxy, page) in &answers {
            match page {
                Ok(page) => look.add(&proxy.to_string(), page),
                Err(error) => silent.push(format!("{proxy}: {error:#}")),
            }
        }
        if silent.len() == proxies.len() {
            bail!("no proxy answers: {}", silent.join("; "));
        }
        silent.sort();
        Ok((look, Instant::now(), silent))
    }
}

/// A proxy that can be asked.
enum Proxy {
    At(SocketAddr),
    Pod {
        cluster: Cluster,
        namespace: String,
        name: String,
    },
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Pod {
                namespace, name, ..
            } => write!(f, "{namespace}/{name}"),
        }
    }
}

impl Proxy {
    async fn page(&self) -> anyhow::Result<String> {
        let page = async {
            match self {
                Self::At(address) => {
                    let page = page::page(*address, METRICS).await?;
                    Ok(String::from_utf8(page.into())?)
                }
                Self::Pod {
                    cluster,
                    namespace,
                    name,
                } => {
                    let pods = path("", "v1", Some(namespace), "pods");
                    let name = escaped(name);
                    let page = format!("{pods}/{name}:{METRICS_PORT}/proxy{METRICS}");
                    Ok(cluster.text(&page).await?)
                }
            }
        };
        let page = timeout(PATIENCE, page).await;
        page.with_context(|| format!("no answer within {PATIENCE:?}"))?
    }
}

fn row(pair: &Pair) -> Value {
    let party = |party: &Party| match party.name.as_str() {
        "unknown" => "outside the mesh".to_owned(),
        name => format!("{}/{name}", party.namespace),
    };
    let latency = |found: Option<f64>| found.map(|ms| format!("<{ms}"));
    let protection = match pair.protection {
        Protection::MutualTls => "mTLS",
        Protection::NodeLocal => "node",
        Protection::Mixed => "mTLS, node",
        Protection::Plain => "nothing",
    };
    json!({
        "source": party(&pair.source),
        "destination": party(&pair.destination),
        "protocol": pair.protocol,
        "rate": format!("{:.1}", pair.rate),
        "success": format!("{:.1}%", pair.success * 100.0),
        "p50": latency(pair.p50),
        "p99": latency(pair.p99),
        "bytes": format!("{:.0}", pair.bytes),
        "protection": protection,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_pair_is_a_line() {
        let party = |namespace: &str, name: &str| Party {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let pair = Pair {
            source: party("unknown", "unknown"),
            destination: party("shop", "api"),
            protocol: crate::top::Protocol::Http,
            rate: 12.34,
            success: 0.995,
            p50: Some(5.0),
            p99: None,
            bytes: 1234.5,
            protection: Protection::MutualTls,
        };
        let expected = "\
SOURCE            DESTINATION  PROTOCOL  RATE  SUCCESS  P50 MS  P99 MS  BYTES/S  PROTECTED BY
outside the mesh  shop/api     http      12.3  99.5%    <5      -       1234     mTLS
";
        assert_eq!(table(COLUMNS, &[row(&pair)]), expected);
    }

    /// A proxy whose count grows by ten with every look.
    async fn proxy() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 1024];
                let read = stream.read(&mut asked).await.expect("asked");
                assert!(asked[..read].starts_with(b"GET /stats/prometheus "));
                count += 10;
                let page = format!(
                    "istio_tcp_connections_opened_total{{reporter=\"source\",source_workload=\"a\",\
                     source_workload_namespace=\"shop\",destination_service_name=\"b\",\
                     destination_service_namespace=\"else\",connection_security_policy=\"mutual_tls\"}} {count}\n"
                );
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
                stream
                    .write_all((head + &page).as_bytes())
                    .await
                    .expect("answered");
            }
        });
        address
    }

    fn flags(address: Vec<SocketAddr>) -> Flags {
        Flags {
            namespace: None,
            address,
            system: "ambit-system".to_owned(),
            interval: 1,
            once: true,
            output: Form::Table,
        }
    }

    #[tokio::test]
    async fn proxies_are_asked_twice_and_those_that_are_silent_named() {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let silent = closed.local_addr().expect("bound");
        drop(closed);
        let mut flags = flags(vec![proxy().await, silent]);
        let proxies = flags.proxies().await.expect("given");
        let (before, at, _) = flags.look(&proxies).await.expect("one answers");
        let (after, now, said) = flags.look(&proxies).await.expect("one answers");
        assert!(now >= at);
        let found = pairs(&before, &after, Duration::from_secs(2));
        assert_eq!(found[0].rate, 5.0);
        let text = flags.shown(found.clone(), &said);
        assert!(text.contains("shop/a  else/b"), "{text}");
        assert!(text.contains(&format!("{silent}: ")), "{text}");
        flags.namespace = Some("else".to_owned());
        assert!(flags.shown(found.clone(), &[]).contains("shop/a"));
        flags.namespace = Some("another".to_owned());
        assert!(!flags.shown(found, &[]).contains("shop/a"));
        flags.address = vec![silent];
        let proxies = flags.proxies().await.expect("given");
        assert!(flags.look(&proxies).await.is_err());
    }
}
