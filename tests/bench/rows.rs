//! What is measured: one load for each row, and what is read off it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// The way between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Path {
    /// Client and server on two nodes.
    CrossNode,
    /// Client and server on one node.
    SameNode,
}

impl Path {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CrossNode => "cross-node",
            Self::SameNode => "same-node",
        }
    }
}

/// What to measure, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    pub(crate) paths: Vec<Path>,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
    pub(crate) smoke: bool,
}

impl Plan {
    /// Rounds, paths and rows in the order in which they are measured.
    pub(crate) fn turns(&self) -> impl Iterator<Item = (u32, Path, Row)> {
        let paths = |round| self.paths.iter().map(move |&path| (round, path));
        let rows = |(round, path)| self.rows.iter().map(move |&row| (round, path, row));
        (1..=self.rounds)
            .flat_map(paths)
            .flat_map(rows)
            .filter(|(round, path, row)| match row {
                Row::Memory => (*round, *path) == (1, Path::CrossNode),
                Row::Push => false,
                _ => true,
            })
            .chain(
                self.rows
                    .contains(&Row::Push)
                    .then(|| (self.rounds, self.paths[0], Row::Push)),
            )
    }
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// Memory of a proxy that has done nothing yet, and with many idle connections. Memory that was used once stays with
    /// a process, so this is measured once, first, and cross-node only.
    Memory,
    /// One TCP stream.
    OneStream,
    /// Eight TCP streams.
    EightStreams,
    /// HTTP/1.1 as fast as 64 connections go.
    Requests,
    /// HTTP/1.1 at a constant 1,000 requests a second.
    Latency,
    /// A connection for every request.
    Connections,
    /// Datagrams on 64 sockets.
    Datagrams,
    /// Many services come and go while others are used. What proxies have taken for it stays with them: it is the last one,
    /// once.
    Push,
}

impl Row {
    /// In the order in which they are measured.
    pub(crate) const ALL: [Self; 8] = [
        Self::Memory,
        Self::OneStream,
        Self::EightStreams,
        Self::Requests,
        Self::Latency,
        Self::Connections,
        Self::Datagrams,
        Self::Push,
    ];

    /// The name for `--row`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::OneStream => "one-stream",
            Self::EightStreams => "eight-streams",
            Self::Requests => "requests",
            Self::Latency => "latency",
            Self::Connections => "connections",
            Self::Datagrams => "datagrams",
            Self::Push => "push",
        }
    }

    /// The arguments of `load` for a short run before the one that counts: what is opened or fetched only once (names,
    /// certificates, tunnels) is no part of a rate. None where the first time is what counts.
    pub(crate) fn warm_up(self, address: &str) -> Option<Vec<String>> {
        let url = format!("http://{address}/?size=64");
        let words: &[&str] = match self {
            Self::Memory | Self::Push => return None,
            Self::Datagrams => &["rr", address, "--udp", "-c", "64", "-n", "640", "--json"],
            _ => &["http", &url, "-c", "64", "-n", "640", "--json"],
        };
        Some(words.iter().map(|&word| word.to_owned()).collect())
    }

    /// The arguments of `load` for a server at `address`.
    pub(crate) fn load(self, plan: &Plan, address: &str) -> Vec<String> {
        let time = format!("{}ms", plan.time.as_millis());
        let url = format!("http://{address}/?size=64");
        let held = held_connections(plan).to_string();
        let words: Vec<&str> = match self {
            Self::Memory => vec![
                "hold",
                address,
                "--connections",
                &held,
                "--for",
                HOLD,
                "--timeout",
                "60s",
            ],
            Self::OneStream => vec!["bulk", address, "--duration", &time],
            Self::EightStreams => vec!["bulk", address, "--duration", &time, "--streams", "8"],
            Self::Requests => vec!["http", &url, "-c", "64", "--duration", &time],
            Self::Latency => {
                vec![
                    "http",
                    &url,
                    "-c",
                    "8",
                    "--rate",
                    "1000",
                    "--duration",
                    &time,
                ]
            }
            Self::Datagrams => vec!["rr", address, "--udp", "-c", "64", "--duration", &time],
            // It has loads of its own.
            Self::Push => vec![],
            Self::Connections => vec![
                "http",
                &url,
                "-c",
                "16",
                "--new-connections",
                "--duration",
                &time,
            ],
        };
        words
            .into_iter()
            .map(str::to_owned)
            .chain(["--json".to_owned()])
            .collect()
    }

    /// What is read off `load`'s report and the proxies' CPU time (none without a proxy).
    pub(crate) fn read(self, report: &Value, cpu: Option<Duration>) -> Vec<(Quantity, f64)> {
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
        let requests = number("/requests").filter(|requests| *requests > 0.0);
        let cpu_per_thousand = cpu
            .zip(requests)
            .map(|(cpu, requests)| cpu.as_secs_f64() * 1e6 / requests);
        let values = match self {
            Self::Memory | Self::Push => vec![],
            Self::OneStream | Self::EightStreams => {
                let [speed, cost] = match self {
                    Self::OneStream => [Quantity::OneStream, Quantity::OneStreamCpu],
                    _ => [Quantity::EightStreams, Quantity::EightStreamsCpu],
                };
                let bytes = number("/transfer/sent_bytes").filter(|bytes| *bytes > 0.0);
                let cpu = cpu
                    .zip(bytes)
                    .map(|(cpu, bytes)| cpu.as_secs_f64() * 1e9 / bytes);
                vec![(speed, number("/transfer/gbit_per_second")), (cost, cpu)]
            }
            Self::Requests => vec![
                (Quantity::Requests, number("/requests_per_second")),
                (Quantity::RequestsCpu, cpu_per_thousand),
            ],
            Self::Latency => vec![
                (Quantity::LatencyP50, number("/latency_us/p50")),
                (Quantity::LatencyP99, number("/latency_us/p99")),
                (Quantity::LatencyCpu, cpu_per_thousand),
            ],
            Self::Connections => vec![
                (Quantity::Connections, number("/requests_per_second")),
                (Quantity::ConnectionsCpu, cpu_per_thousand),
            ],
            Self::Datagrams => vec![
                (Quantity::Datagrams, number("/requests_per_second")),
                (Quantity::DatagramsCpu, cpu_per_thousand),
            ],
        };
        values
            .into_iter()
            .filter_map(|(quantity, value)| Some((quantity, value?)))
            .collect()
    }
}

/// How long connections are held; their memory is read as soon as all are open.
const HOLD: &str = "1s";

/// How many connections the memory row holds. A limit of 20,000 descriptors a process is common, and the client's, the
/// server's and each proxy's connections all count.
pub(crate) fn held_connections(plan: &Plan) -> u32 {
    if plan.smoke { 100 } else { 10_000 }
}

/// One line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Quantity {
    OneStream,
    OneStreamCpu,
    EightStreams,
    EightStreamsCpu,
    Requests,
    RequestsCpu,
    LatencyP50,
    LatencyP99,
    LatencyCpu,
    Connections,
    ConnectionsCpu,
    Datagrams,
    DatagramsCpu,
    IdleMemory,
    HeldMemory,
    HeldConnectionMemory,
    ReleasedMemory,
    PushTime,
    PushMemory,
    PushLongest,
    PushLongestOutside,
}

impl Quantity {
    /// What a reader sees, with the unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::OneStream => "throughput, 1 stream (Gbit/s)",
            Self::OneStreamCpu => "proxy CPU, 1 stream (s/GB)",
            Self::EightStreams => "throughput, 8 streams (Gbit/s)",
            Self::EightStreamsCpu => "proxy CPU, 8 streams (s/GB)",
            Self::Requests => "requests, 64 connections (1/s)",
            Self::RequestsCpu => "proxy CPU, 64 connections (ms/1,000 requests)",
            Self::LatencyP50 => "latency p50 at 1,000/s (us)",
            Self::LatencyP99 => "latency p99 at 1,000/s (us)",
            Self::LatencyCpu => "proxy CPU at 1,000/s (ms/1,000 requests)",
            Self::Connections => "new connections (1/s)",
            Self::ConnectionsCpu => "proxy CPU, new connections (ms/1,000)",
            Self::Datagrams => "UDP, 64 sockets, datagrams each way (1/s)",
            Self::DatagramsCpu => "proxy CPU, UDP (ms/1,000 each way)",
            Self::IdleMemory => "memory of one idle proxy (MB)",
            Self::HeldMemory => "memory of all proxies, connections held (MB)",
            Self::HeldConnectionMemory => "memory of a held connection, all proxies (kB)",
            Self::ReleasedMemory => "memory of all proxies, connections gone (MB)",
            Self::PushTime => "many services of 10 endpoints in force (s)",
            Self::PushMemory => "memory of a service or endpoint, one proxy (B)",
            Self::PushLongest => "longest request while they come and go, 1,000/s (ms)",
            Self::PushLongestOutside => "the same outside the mesh (ms)",
        }
    }

    /// Whether more is better.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::OneStream
                | Self::EightStreams
                | Self::Requests
                | Self::Connections
                | Self::Datagrams
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reports_are_read_in_their_units() {
        let cpu = Some(Duration::from_secs(2));
        let bulk =
            json!({ "transfer": { "sent_bytes": 4_000_000_000_u64, "gbit_per_second": 8.5 } });
        let http = json!({ "requests": 50_000, "requests_per_second": 10_000.0, "latency_us": { "p50": 70.0, "p99": 120.0 } });
        for (row, report, cpu, expected) in [
            (
                Row::OneStream,
                &bulk,
                cpu,
                vec![(Quantity::OneStream, 8.5), (Quantity::OneStreamCpu, 0.5)],
            ),
            (
                Row::EightStreams,
                &bulk,
                None,
                vec![(Quantity::EightStreams, 8.5)],
            ),
            (
                Row::Requests,
                &http,
                cpu,
                vec![
                    (Quantity::Requests, 10_000.0),
                    (Quantity::RequestsCpu, 40.0),
                ],
            ),
            (
                Row::Latency,
                &http,
                None,
                vec![(Quantity::LatencyP50, 70.0), (Quantity::LatencyP99, 120.0)],
            ),
            (Row::Connections, &json!({}), cpu, vec![]),
        ] {
            assert_eq!(row.read(report, cpu), expected, "{}", row.name());
        }
    }
}
