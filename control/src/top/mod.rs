//! Who talks to whom, from what two looks at the metrics of proxies differ in. Pure.
//!
//! A connection is reported by the node proxies of both its ends, a request by the waypoint: of a pair of workloads the
//! client's side counts, and the server's where the client's is silent (it is not in the mesh).

mod page;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use page::{Sample, samples};

/// Somebody who talks or is talked to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Party {
    /// `unknown` outside the mesh.
    pub namespace: String,
    /// A Service if one was asked for, else a workload.
    pub name: String,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Requests through a waypoint.
    Http,
    /// Calls through a waypoint.
    Grpc,
}

/// What protects a pair's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// All of it is mutual TLS.
    MutualTls,
    /// All of it stays on a node, whose kernel vouches for both ends.
    NodeLocal,
    /// All of it is one of the two.
    Mixed,
    /// Some of it is plain text.
    Plain,
}

/// One pair that talked between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    #[allow(missing_docs)]
    pub source: Party,
    #[allow(missing_docs)]
    pub destination: Party,
    #[allow(missing_docs)]
    pub protocol: Protocol,
    /// Connections or requests a second.
    pub rate: f64,
    /// The share that went well, from 0 to 1: connections that were made, responses below 500.
    pub success: f64,
    /// Milliseconds in which half of the requests were answered; connections have none.
    pub p50: Option<f64>,
    /// The same of 99 of 100.
    pub p99: Option<f64>,
    /// Bytes a second, both ways.
    pub bytes: f64,
    #[allow(missing_docs)]
    pub protection: Protection,
}

/// Counters of many pages at one moment.
#[derive(Debug, Clone, Default)]
pub struct Look(BTreeMap<Series, f64>);

/// One counter, as far as it makes a difference here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    /// Who told, so that a restarted proxy does not run a sum backwards.
    teller: String,
    source: Party,
    destination: Party,
    protocol: Protocol,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Done {
        by: Teller,
        security: String,
    },
    Failed {
        by: Teller,
        security: String,
    },
    Bytes(Teller),
    /// Requests that took no longer, in microseconds; `None` is all.
    Within(Option<u64>),
}

/// Whose proxy reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Teller {
    Client,
    Server,
    Waypoint,
}

impl Look {
    /// Adds the page of a proxy.
    pub fn add(&mut self, teller: &str, page: &str) {
        for sample in samples(page) {
            if let Some(series) = series(teller, &sample) {
                *self.0.entry(series).or_default() += sample.value;
            }
        }
    }
}

fn series(teller: &str, sample: &Sample<'_>) -> Option<Series> {
    let security = || sample.label("connection_security_policy").to_owned();
    let by = match sample.label("reporter") {
        "source" => Teller::Client,
        "destination" => Teller::Server,
        "waypoint" => Teller::Waypoint,
        _ => return None,
    };
    let requests = match sample.label("request_protocol") {
        "grpc" => Protocol::Grpc,
        "http" => Protocol::Http,
        _ => Protocol::Tcp,
    };
    let what = match sample.name {
        "istio_tcp_connections_opened_total" => What::Done {
            by,
            security: security(),
        },
        "istio_tcp_connections_failed_total" => What::Failed {
            by,
            security: security(),
        },
        "istio_tcp_received_bytes_total" | "istio_tcp_sent_bytes_total" => What::Bytes(by),
        "istio_requests_total" => match sample.label("response_code").parse() {
            Ok(100..500) => What::Done {
                by,
                security: security(),
            },
            _ => What::Failed {
                by,
                security: security(),
            },
        },
        "istio_request_bytes_sum" | "istio_response_bytes_sum" => What::Bytes(by),
        "istio_request_duration_milliseconds_bucket" => {
            let bound: Option<f64> = sample
                .label("le")
                .parse()
                .ok()
                .filter(|it: &f64| it.is_finite());
            What::Within(bound.map(|milliseconds| (milliseconds * 1000.0) as u64))
        }
        _ => return None,
    };
    let named = |name: &str, namespace: &str| match sample.label(name) {
        "" | "unknown" => None,
        found => Some(Party {
            namespace: sample.label(namespace).to_owned(),
            name: found.to_owned(),
        }),
    };
    let unknown = || Party {
        namespace: "unknown".to_owned(),
        name: "unknown".to_owned(),
    };
    let source = named("source_workload", "source_workload_namespace");
    let destination = named("destination_service_name", "destination_service_namespace")
        .or_else(|| named("destination_workload", "destination_workload_namespace"));
    Some(Series {
        teller: teller.to_owned(),
        source: source.unwrap_or_else(unknown),
        destination: destination.unwrap_or_else(unknown),
        protocol: requests,
        what,
    })
}

#[derive(Debug, Default)]
struct Sums {
    /// Done, failed, bytes, by whose proxy reports.
    told: BTreeMap<Teller, [f64; 3]>,
    security: BTreeMap<(Teller, String), f64>,
    within: BTreeMap<u64, f64>,
    requests: f64,
}

/// The pairs that talked between two looks, the busiest first.
#[must_use]
pub fn pairs(before: &Look, after: &Look, between: Duration) -> Vec<Pair> {
    let mut sums: BTreeMap<(&Party, &Party, Protocol), Sums> = BTreeMap::new();
    for (series, value) in &after.0 {
        let old = before.0.get(series).copied().unwrap_or_default();
        // A proxy that began anew counts from nothing.
        let grown = if *value < old { *value } else { value - old };
        if grown <= 0.0 {
            continue;
        }
        let key = (&series.source, &series.destination, series.protocol);
        let sums = sums.entry(key).or_default();
        match &series.what {
            What::Done { by, security } | What::Failed { by, security } => {
                let failed = matches!(series.what, What::Failed { .. });
                sums.told.entry(*by).or_default()[usize::from(failed)] += grown;
                if !failed {
                    *sums.security.entry((*by, security.clone())).or_default() += grown;
                }
            }
            What::Bytes(by) => sums.told.entry(*by).or_default()[2] += grown,
            What::Within(Some(bound)) => *sums.within.entry(*bound).or_default() += grown,
            What::Within(None) => sums.requests += grown,
        }
    }
    let seconds = between.as_secs_f64().max(1e-3);
    let all = sums
        .iter()
        .filter_map(|((source, destination, protocol), sums)| {
            let (teller, [done, failed, bytes]) = sums.told.iter().next()?;
            let count = done + failed;
            Some(Pair {
                source: (*source).clone(),
                destination: (*destination).clone(),
                protocol: *protocol,
                rate: count / seconds,
                success: if count > 0.0 { done / count } else { 1.0 },
                p50: sums.quantile(0.5),
                p99: sums.quantile(0.99),
                bytes: bytes / seconds,
                protection: sums.protection(*teller),
            })
        });
    let mut all: Vec<Pair> = all.collect();
    all.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    all
}

impl Sums {
    /// Milliseconds, by the upper end of the bucket that it falls into.
    fn quantile(&self, share: f64) -> Option<f64> {
        if self.requests <= 0.0 {
            return None;
        }
        let wanted = self.requests * share;
        let mut buckets = self.within.iter();
        let found = buckets.find(|(_, count)| **count >= wanted);
        let bound = found.or_else(|| self.within.iter().next_back())?.0;
        Some(*bound as f64 / 1000.0)
    }

    fn protection(&self, by: Teller) -> Protection {
        let of = |wanted: &str| {
            let all = self
                .security
                .iter()
                .filter(|((teller, _), _)| *teller == by);
            all.filter(|((_, security), _)| security == wanted).count() > 0
        };
        let others = self.security.keys().any(|(teller, security)| {
            *teller == by && !matches!(security.as_str(), "mutual_tls" | "node_local")
        });
        match (of("mutual_tls"), of("node_local")) {
            _ if others => Protection::Plain,
            (true, true) => Protection::Mixed,
            (true, false) => Protection::MutualTls,
            (false, true) => Protection::NodeLocal,
            (false, false) => Protection::Plain,
        }
    }
}

#[cfg(test)]
mod tests;
