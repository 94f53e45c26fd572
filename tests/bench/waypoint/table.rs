//! Medians of samples, as a table of markdown and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::figures::{median, ratio, significant};

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Quantity {
    #[allow(missing_docs)]
    IdleMemory,
    Rate,
    RatePerCore,
    SaturatedCpu,
    LatencyP50,
    LatencyP99,
    AddedP99,
    SteadyCpu,
    SlowStreamMemory,
    ConnectionMemory,
    RoutesMemory,
    RoutesCpu,
    InForce,
}

impl Quantity {
    fn title(self) -> &'static str {
        match self {
            Self::IdleMemory => "memory, idle (MB)",
            Self::Rate => "requests, 64 connections (1/s)",
            Self::RatePerCore => "requests for each second of its CPU time, 64 connections",
            Self::SaturatedCpu => "CPU, 64 connections (us/request)",
            Self::LatencyP50 => "latency p50 at 1,000/s (us)",
            Self::LatencyP99 => "latency p99 at 1,000/s (us)",
            Self::AddedP99 => "p99 beyond that of direct in the same turn (us)",
            Self::SteadyCpu => "CPU at 1,000/s (us/request)",
            Self::SlowStreamMemory => "memory of a slow reader (kB)",
            Self::ConnectionMemory => "memory of a held connection (kB)",
            Self::RoutesMemory => "memory of a route, many routes (kB)",
            Self::RoutesCpu => "CPU, 64 connections, many routes (us/request)",
            Self::InForce => "a changed route in force, many routes (ms)",
        }
    }

    fn more_is_better(self) -> bool {
        matches!(self, Self::Rate | Self::RatePerCore)
    }
}

/// What was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Table {
    /// In the order of the columns.
    variants: Vec<&'static str>,
    samples: BTreeMap<Quantity, BTreeMap<&'static str, Vec<f64>>>,
}

impl Table {
    pub(crate) fn new(variants: Vec<&'static str>) -> Self {
        Self {
            variants,
            samples: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, quantity: Quantity, variant: &'static str, value: f64) {
        eprintln!("bench-waypoint: {variant}: {} {value:.1}", quantity.title());
        let of = self.samples.entry(quantity).or_default();
        of.entry(variant).or_default().push(value);
    }

    /// With how many times better the first variant is than each that is not `direct`.
    pub(crate) fn markdown(&self, subject: &str) -> String {
        let others = self.variants.iter();
        let others: Vec<&str> = others.copied().filter(|it| *it != subject).collect();
        let mut lines = vec![
            format!(
                "| quantity | {} |{}",
                self.variants.join(" | "),
                others
                    .iter()
                    .map(|it| format!(" {subject} vs {it} |"))
                    .collect::<String>()
            ),
            format!(
                "|---|{}",
                "---:|".repeat(self.variants.len() + others.len())
            ),
        ];
        for (quantity, of) in &self.samples {
            let medians: BTreeMap<&str, f64> = of
                .iter()
                .filter_map(|(name, values)| Some((*name, median(values)?)))
                .collect();
            let mut line = format!("| {} |", quantity.title());
            for variant in &self.variants {
                line += &match medians.get(variant) {
                    Some(value) => format!(" {} |", significant(*value)),
                    None => " |".to_owned(),
                };
            }
            for other in &others {
                let both = medians.get(subject).zip(medians.get(other));
                let found = both
                    .and_then(|(ours, theirs)| ratio(*ours, *theirs, quantity.more_is_better()));
                line += &match found {
                    Some(times) => format!(" {times:.2}x |"),
                    None => " |".to_owned(),
                };
            }
            lines.push(line);
        }
        lines.join("\n") + "\n\nA ratio above 1 means better, whichever way the quantity counts.\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_above_one_are_better_both_ways() {
        let mut table = Table::new(vec!["direct", "ambit", "envoy"]);
        for value in [30.0, 10.0, 20.0] {
            table.add(Quantity::Rate, "ambit", value);
        }
        table.add(Quantity::Rate, "envoy", 40.0);
        table.add(Quantity::SteadyCpu, "ambit", 50.0);
        table.add(Quantity::SteadyCpu, "envoy", 200.0);
        let text = table.markdown("ambit");
        for line in [
            "| quantity | direct | ambit | envoy | ambit vs direct | ambit vs envoy |",
            "| requests, 64 connections (1/s) | | 20.0 | 40.0 | | 0.50x |",
            "| CPU at 1,000/s (us/request) | | 50.0 | 200 | | 4.00x |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
