//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ambit_lab::programs::units::parse_duration;

use crate::binaries::Binaries;
use crate::rows::{Path, Plan, Row};

/// Measures throughput, latency, connections, CPU and memory of node proxies in the lab.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// Another ztunnel binary to measure beside Ambit's. May be repeated.
    #[arg(long = "ztunnel", value_name = "[NAME=]BIN")]
    ztunnels: Vec<Proxy>,
    /// Do not measure Ambit's own ztunnel.
    #[arg(long, requires = "ztunnels")]
    without_ambit: bool,
    /// How often every row is measured; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes.
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    time: Duration,
    /// Only rows whose name contains this. May be repeated.
    #[arg(long = "row", value_name = "TEXT")]
    rows: Vec<String>,
    /// Only this way between client and server.
    #[arg(long, value_enum)]
    path: Option<Path>,
    /// One short round of everything, to see that it runs; its numbers mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Write all samples and medians to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Use the programs as they were built last.
    #[arg(long)]
    pub(crate) no_build: bool,
}

#[derive(Debug, Clone)]
struct Proxy {
    name: Option<String>,
    path: PathBuf,
}

impl FromStr for Proxy {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((name, path)) => Self {
                name: Some(name.to_owned()),
                path: path.into(),
            },
            None => Self {
                name: None,
                path: text.into(),
            },
        })
    }
}

impl Options {
    /// What is measured, and for how long.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let rows: Vec<Row> = Row::ALL
            .into_iter()
            .filter(|row| {
                self.rows.is_empty()
                    || self
                        .rows
                        .iter()
                        .any(|text| row.name().contains(text.as_str()))
            })
            .collect();
        if rows.is_empty() {
            let names: Vec<_> = Row::ALL.iter().map(|row| row.name()).collect();
            anyhow::bail!("no row is named like that; there are: {}", names.join(", "));
        }
        Ok(Plan {
            rows,
            paths: self
                .path
                .map_or(vec![Path::CrossNode, Path::SameNode], |path| vec![path]),
            rounds: if self.smoke { 1 } else { self.rounds },
            time: if self.smoke {
                Duration::from_millis(200)
            } else {
                self.time
            },
            smoke: self.smoke,
        })
    }

    /// The proxies to measure, by name.
    pub(crate) fn proxies(&self, binaries: &Binaries) -> Vec<(String, PathBuf)> {
        let ambit = (!self.without_ambit).then(|| ("ambit".to_owned(), binaries.ztunnel.clone()));
        let others = self.ztunnels.iter().enumerate().map(|(number, proxy)| {
            let name = proxy
                .name
                .clone()
                .unwrap_or_else(|| format!("other-{}", number + 1));
            (name, proxy.path.clone())
        });
        ambit.into_iter().chain(others).collect()
    }
}
