//! What is measured: one load for each row, the variants in turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ambit_lab::harness::Lab;
use serde_json::Value;

use crate::Cli;
use crate::process::Processes;
use crate::scene::{self, CLIENT, NAMESPACE, Way};
use crate::table::{Quantity, Table};

/// How often a round measures latencies: few of many requests decide the 99th percentile.
const STEADY: u32 = 3;
/// How often memory is looked at while it grows.
const LOOK: Duration = Duration::from_millis(50);
/// Files that have not changed for so long are not read again.
const SETTLED: Duration = Duration::from_secs(4);
/// How long a changed route may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that one client holds.
pub(crate) const HELD_BY_ONE: u32 = 5_000;

/// A way with its waypoint, if it has one.
pub(crate) struct Variant {
    pub(crate) way: Way,
    pub(crate) process: Option<Processes>,
}

pub(crate) struct Bench<'a> {
    pub(crate) lab: &'a Lab,
    /// Beside the first, for what it cannot hold.
    pub(crate) more_clients: Vec<String>,
    pub(crate) variants: Vec<Variant>,
    pub(crate) time: Duration,
}

impl Bench<'_> {
    pub(crate) fn run(&self, cli: &Cli) -> anyhow::Result<Table> {
        let names = self.variants.iter().map(|it| it.way.name());
        let mut table = Table::new(names.collect());
        for variant in &self.variants {
            if let Some(process) = &variant.process {
                let memory = resident(process)?;
                table.add(Quantity::IdleMemory, variant.way.name(), memory / 1e6);
            }
            self.load(variant, &["-c", "64", "-n", "640"])?;
        }
        for _ in 0..cli.rounds {
            for variant in &self.variants {
                self.saturated(variant, &mut table, false)?;
            }
            for _ in 0..STEADY {
                self.steady(&mut table)?;
            }
        }
        for variant in &self.variants {
            self.slow_readers(variant, cli.readers, &mut table)?;
        }
        for variant in &self.variants {
            self.held(variant, cli.connections, &mut table)?;
        }
        for variant in self.variants.iter().filter(|it| it.way == Way::Ambit) {
            self.many_routes(variant, cli.routes, &mut table)?;
            for _ in 0..cli.rounds {
                self.saturated(variant, &mut table, true)?;
            }
        }
        Ok(table)
    }

    fn saturated(&self, variant: &Variant, table: &mut Table, routes: bool) -> anyhow::Result<()> {
        let (report, cpu) = self.load(variant, &["-c", "64"])?;
        let name = variant.way.name();
        if routes {
            table.add(Quantity::RoutesCpu, name, cpu.unwrap_or_default());
            return Ok(());
        }
        table.add(
            Quantity::Rate,
            name,
            number(&report, "/requests_per_second"),
        );
        if let Some(cpu) = cpu {
            table.add(Quantity::SaturatedCpu, name, cpu);
            table.add(Quantity::RatePerCore, name, 1e6 / cpu);
        }
        Ok(())
    }

    /// A constant rate, every variant once, the direct way first.
    fn steady(&self, table: &mut Table) -> anyhow::Result<()> {
        let mut direct = None;
        for variant in &self.variants {
            let (report, cpu) = self.load(variant, &["-c", "8", "--rate", "1000"])?;
            let name = variant.way.name();
            let [p50, p99] = ["p50", "p99"].map(|it| number(&report, &format!("/latency_us/{it}")));
            table.add(Quantity::LatencyP50, name, p50);
            table.add(Quantity::LatencyP99, name, p99);
            match (variant.way, direct) {
                (Way::Direct, _) => direct = Some(p99),
                (_, Some(direct)) => table.add(Quantity::AddedP99, name, p99 - direct),
                (_, None) => {}
            }
            if let Some(cpu) = cpu {
                table.add(Quantity::SteadyCpu, name, cpu);
            }
        }
        Ok(())
    }

    /// Requests for the time of a row; the report, and the waypoint's CPU time for each in microseconds.
    fn load(&self, variant: &Variant, more: &[&str]) -> anyhow::Result<(Value, Option<f64>)> {
        let url = variant.way.url("size=128");
        let time = format!("{}ms", self.time.as_millis());
        let fixed = ["http", &url, "--json", "-d", &time];
        let cpu = || variant.process.as_ref().map(Processes::cpu).transpose();
        let before = cpu()?;
        let report = self.lab.load(CLIENT, &[&fixed, more].concat()).json();
        let spent = cpu()?.zip(before).map(|(after, before)| after - before);
        let requests = number(&report, "/requests");
        let each = spent.map(|it| it.as_secs_f64() * 1e6 / requests);
        Ok((report, each))
    }

    /// Growth of the waypoint for each reader of a response that is much faster than it.
    fn slow_readers(
        &self,
        variant: &Variant,
        readers: u32,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let url = variant.way.url("size=1Gi");
        let time = format!("{}ms", 2 * self.time.as_millis());
        let count = readers.to_string();
        let words = [
            "slow", &url, "-c", &count, "--rate", "256Ki", "-d", &time, "--json",
        ];
        let one = [CLIENT.to_owned()];
        self.growth(
            variant,
            readers,
            &one,
            &words,
            Quantity::SlowStreamMemory,
            table,
        )
    }

    /// Growth of the waypoint for each of many connections that have all been used.
    fn held(&self, variant: &Variant, connections: u32, table: &mut Table) -> anyhow::Result<()> {
        let url = variant.way.url("size=128");
        let more = self.more_clients.iter();
        let mut clients = vec![CLIENT.to_owned()];
        clients.extend(more.map(|client| format!("{NAMESPACE}/{client}")));
        let each = connections / clients.len() as u32;
        // Each is used twice.
        let (count, requests) = (each.to_string(), (2 * each).to_string());
        let rate = (2_000 / clients.len()).to_string();
        let words = [
            "http",
            &url,
            "-c",
            &count,
            "-n",
            &requests,
            "--rate",
            &rate,
            "--timeout",
            "60s",
            "--json",
        ];
        self.growth(
            variant,
            connections,
            &clients,
            &words,
            Quantity::ConnectionMemory,
            table,
        )
    }

    /// Memory that the waypoint takes for each of `each` while all clients run the same.
    fn growth(
        &self,
        variant: &Variant,
        each: u32,
        clients: &[String],
        words: &[&str],
        quantity: Quantity,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let Some(process) = &variant.process else {
            return Ok(());
        };
        let before = resident(process)?;
        let over = AtomicBool::new(false);
        let most = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut most = before;
                while !over.load(Ordering::Relaxed) {
                    most = most.max(resident(process).unwrap_or_default());
                    std::thread::sleep(LOOK);
                }
                most
            });
            let running = clients.iter();
            let running =
                running.map(|client| scope.spawn(move || self.lab.load(client, words).success()));
            let running: Vec<_> = running.collect();
            let ran: Vec<_> = running.into_iter().map(|it| it.join()).collect();
            over.store(true, Ordering::Relaxed);
            let most = looking.join();
            ran.into_iter().find_map(Result::err).map_or(most, Err)
        });
        let most = most.map_err(|_| anyhow::anyhow!("a client failed"))?;
        let name = variant.way.name();
        table.add(quantity, name, (most - before) / f64::from(each) / 1e3);
        Ok(())
    }

    /// Applies many routes, changes one of them, and waits for requests to say so.
    fn many_routes(
        &self,
        variant: &Variant,
        count: usize,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let Some(process) = &variant.process else {
            return Ok(());
        };
        let name = variant.way.name();
        let routes: Vec<Value> = (0..count)
            .map(|at| scene::route(&format!("route-{at}"), &format!("/item/{at}")))
            .collect();
        let before = resident(process)?;
        self.lab.apply(&scene::text(&routes));
        let growth = resident(process)? - before;
        table.add(Quantity::RoutesMemory, name, growth / count as f64 / 1e3);
        for round in 0..3 {
            // What was written just now is read again with the next change; one change alone is measured.
            std::thread::sleep(SETTLED);
            let value = format!("new-{round}");
            let changed = scene::route_with("route-7", "/item/7", &value);
            let took = self.in_force(&value, &scene::text(&[changed]))?;
            table.add(Quantity::InForce, name, took.as_secs_f64() * 1e3);
        }
        Ok(())
    }

    /// How long it takes from the moment somebody applies a change until a request meets it.
    fn in_force(&self, value: &str, manifests: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let _applying = scope.spawn(|| self.lab.apply(manifests));
            while start.elapsed() < PATIENCE {
                let received = self.lab.get(CLIENT, "http://ambit.mesh/item/7");
                if received["headers"]["x-route"] == value {
                    return Ok(start.elapsed());
                }
            }
            anyhow::bail!("the changed route is not in force after {PATIENCE:?}")
        })
    }
}

pub(crate) fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or(f64::NAN)
}

/// Bytes of memory of the one process.
fn resident(process: &Processes) -> anyhow::Result<f64> {
    Ok(process.memory()?.iter().sum::<u64>() as f64)
}
