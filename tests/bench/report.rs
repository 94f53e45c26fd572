//! The result as a markdown table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figures::significant;
use crate::machine::Machine;
use crate::rows::{Plan, held_connections};
use crate::summary::Outcome;

/// All that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: u32,
    seconds: f64,
    held_connections: u32,
    smoke: bool,
    variants: Vec<String>,
    rows: Vec<Outcome>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        machine: Machine,
        plan: &Plan,
        variants: Vec<String>,
        rows: Vec<Outcome>,
        failures: Vec<String>,
    ) -> Self {
        Self {
            machine,
            rounds: plan.rounds,
            seconds: plan.time.as_secs_f64(),
            held_connections: held_connections(plan),
            smoke: plan.smoke,
            variants,
            rows,
            failures,
        }
    }

    /// Whether every measurement succeeded.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// The table; ratios compare the first proxy with each other variant.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Machine {
            cpus,
            model,
            kernel,
            idle,
        } = &self.machine;
        writeln!(
            out,
            "{cpus} CPUs ({model}), Linux {kernel}; medians of {} rounds of {} s",
            self.rounds, self.seconds
        )?;
        writeln!(out, "held connections: {}", self.held_connections)?;
        if *idle < 0.9 {
            writeln!(
                out,
                "before the first row the CPUs were {:.0} % idle: do not trust the numbers",
                idle * 100.0
            )?;
        }
        if self.smoke {
            writeln!(out, "a smoke run: the numbers mean nothing")?;
        }
        let subject = self.variants.get(1).or(self.variants.first());
        let others: Vec<_> = self
            .variants
            .iter()
            .filter(|variant| Some(*variant) != subject)
            .collect();
        write!(out, "\n| path | quantity |")?;
        for variant in &self.variants {
            write!(out, " {variant} |")?;
        }
        if let Some(subject) = subject {
            for other in &others {
                write!(out, " {subject} vs {other} |")?;
            }
        }
        writeln!(out)?;
        let numbers = self.variants.len() + others.len();
        writeln!(out, "|---|---|{}", "---:|".repeat(numbers))?;
        for row in &self.rows {
            write!(out, "| {} | {} |", row.path.name(), row.title)?;
            for variant in &self.variants {
                match row.variants.get(variant) {
                    Some(values) => write!(out, " {} |", significant(values.median))?,
                    None => write!(out, " |")?,
                }
            }
            for other in &others {
                match subject.and_then(|subject| row.ratio(subject, other)) {
                    Some(ratio) => write!(out, " {ratio:.2}x |")?,
                    None => write!(out, " |")?,
                }
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "\nA ratio above 1 means better, whichever way the quantity counts."
        )?;
        for failure in &self.failures {
            writeln!(out, "\nnot measured: {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Path, Quantity, Row};
    use crate::summary::{Sample, summarize};
    use std::time::Duration;

    #[test]
    fn the_table_compares_the_first_proxy_with_all_others() {
        let plan = Plan {
            rows: Row::ALL.to_vec(),
            paths: vec![Path::CrossNode],
            rounds: 1,
            time: Duration::from_secs(1),
            smoke: false,
        };
        let variants = ["direct", "ambit", "peer"].map(str::to_owned).to_vec();
        let sample = |variant: &str, value| Sample {
            path: Path::CrossNode,
            quantity: Quantity::Requests,
            variant: variant.to_owned(),
            value,
        };
        let samples = [
            sample("direct", 100_000.0),
            sample("ambit", 40_000.0),
            sample("peer", 20_000.0),
        ];
        let rows = summarize(&samples, &variants);
        let machine = Machine::default();
        let table = Report::new(machine, &plan, variants, rows, Vec::new()).markdown();
        for line in [
            "| path | quantity | direct | ambit | peer | ambit vs direct | ambit vs peer |",
            "| cross-node | requests, 64 connections (1/s) | 100000 | 40000 | 20000 | 0.40x | 2.00x |",
        ] {
            assert!(
                table.lines().any(|found| found == line),
                "{line} in {table}"
            );
        }
    }
}
