//! Takes the samples: every row in every variant, one after the other, round by round.
//!
//! Variants take turns within a row, so that a slow minute of the machine hits all of them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::lab::Lab;
use crate::process::Processes;
use crate::push;
use crate::rows::{Path, Plan, Quantity, Row, held_connections};
use crate::scene;
use crate::summary::Sample;

/// One way to reach the servers.
#[derive(Debug)]
pub(crate) struct Variant {
    name: String,
    namespace: &'static str,
    /// Index of the lab.
    lab: usize,
    /// The proxies on the way, if any.
    proxies: Option<Processes>,
    near: String,
    far: String,
}

impl Variant {
    /// Without a proxy.
    pub(crate) fn direct(lab: &Lab) -> anyhow::Result<Self> {
        Self::new("direct", scene::PLAIN, lab, None)
    }

    /// Through the lab's proxies.
    pub(crate) fn meshed(name: &str, lab: &Lab) -> anyhow::Result<Self> {
        Self::new(name, scene::MESH, lab, Some(lab.proxies().clone()))
    }

    fn new(
        name: &str,
        namespace: &'static str,
        lab: &Lab,
        proxies: Option<Processes>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            namespace,
            lab: 0,
            proxies,
            near: lab.address(namespace, scene::NEAR)?,
            far: lab.address(namespace, scene::FAR)?,
        })
    }
}

/// The labs and the variants in them.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    labs: Vec<Lab>,
    variants: Vec<Variant>,
}

/// What a run took.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) samples: Vec<Sample>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

impl Bench {
    /// Takes a variant of the lab that is kept next.
    pub(crate) fn add(&mut self, mut variant: Variant) {
        variant.lab = self.labs.len();
        self.variants.push(variant);
    }

    /// Keeps a lab to the end.
    pub(crate) fn keep(&mut self, lab: Lab) {
        self.labs.push(lab);
    }

    /// The variants' names in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.variants
            .iter()
            .map(|variant| variant.name.clone())
            .collect()
    }

    /// Takes all labs down.
    pub(crate) fn down(mut self) -> anyhow::Result<()> {
        self.labs.iter_mut().try_for_each(Lab::down)
    }

    /// Measures everything. A measurement that fails is told in the result and does not end the others.
    pub(crate) fn run(&self, plan: &Plan, progress: &impl Fn(&str)) -> Measured {
        let mut measured = Measured::default();
        for (round, path, row) in plan.turns() {
            for variant in &self.variants {
                let name = &variant.name;
                let turn = format!("round {round}, {}, {name}", path.name());
                let values = match self.measure(plan, variant, path, row) {
                    Ok(values) => values,
                    Err(error) => {
                        let failure = format!("{turn}, {}: {error:#}", row.name());
                        progress(&failure);
                        measured.failures.push(failure);
                        continue;
                    }
                };
                for (quantity, value) in values {
                    progress(&format!("{turn}: {} {value:.3}", quantity.title()));
                    measured.samples.push(Sample {
                        path,
                        quantity,
                        variant: name.clone(),
                        value,
                    });
                }
            }
        }
        measured
    }

    fn measure(
        &self,
        plan: &Plan,
        variant: &Variant,
        path: Path,
        row: Row,
    ) -> anyhow::Result<Vec<(Quantity, f64)>> {
        let address = match path {
            Path::CrossNode => &variant.far,
            Path::SameNode => &variant.near,
        };
        let arguments = row.load(plan, address);
        let lab = &self.labs[variant.lab];
        if row == Row::Push {
            let server = match path {
                Path::CrossNode => scene::FAR,
                Path::SameNode => scene::NEAR,
            };
            let address = |namespace| lab.address(namespace, server);
            return match &variant.proxies {
                Some(proxies) => push::measure(lab, plan, address, proxies),
                None => Ok(Vec::new()),
            };
        }
        if row == Row::Memory {
            let connections = f64::from(held_connections(plan));
            return match &variant.proxies {
                Some(proxies) => memory(lab, variant.namespace, &arguments, proxies, connections),
                None => Ok(Vec::new()),
            };
        }
        if let Some(arguments) = row.warm_up(address) {
            lab.load(variant.namespace, &arguments, |_: &Value| Ok(()))?;
        }
        let cpu = || variant.proxies.as_ref().map(Processes::cpu).transpose();
        let before = cpu()?;
        let report = lab.load(variant.namespace, &arguments, |_: &Value| Ok(()))?;
        let spent = cpu()?
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(row.read(&report, spent))
    }
}

/// How long the proxies may take to close what held connections have opened.
const GIVEN_BACK: Duration = Duration::from_secs(60);
/// Descriptors of the connections between the proxies, which stay for some minutes.
const KEPT: usize = 250;
/// The time after which an allocator gives back what nobody uses.
const DECAY: Duration = Duration::from_secs(15);

/// Open descriptors of all proxies.
fn descriptors(proxies: &Processes) -> anyhow::Result<usize> {
    let folders = proxies.folders()?.into_iter();
    folders
        .map(|folder| Ok(std::fs::read_dir(folder.join("fd"))?.count()))
        .sum()
}

fn memory(
    lab: &Lab,
    namespace: &str,
    arguments: &[String],
    proxies: &Processes,
    connections: f64,
) -> anyhow::Result<Vec<(Quantity, f64)>> {
    let idle = proxies.memory()?;
    let few = descriptors(proxies)? + KEPT;
    let mut held = None;
    lab.load(namespace, arguments, |line| {
        if line.get("holding").is_some() {
            held = Some(proxies.memory()?);
        }
        Ok(())
    })?;
    let held: u64 = held
        .context("load never held its connections")?
        .iter()
        .sum();
    let end = Instant::now() + GIVEN_BACK;
    while descriptors(proxies)? > few {
        anyhow::ensure!(
            Instant::now() < end,
            "the proxies keep descriptors of connections that are gone"
        );
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(DECAY);
    let released: u64 = proxies.memory()?.iter().sum();
    let before: u64 = idle.iter().sum();
    let largest = idle.iter().max().copied().unwrap_or_default();
    Ok(vec![
        (Quantity::IdleMemory, largest as f64 / 1e6),
        (Quantity::HeldMemory, held as f64 / 1e6),
        (
            Quantity::HeldConnectionMemory,
            held.saturating_sub(before) as f64 / 1e3 / connections,
        ),
        (Quantity::ReleasedMemory, released as f64 / 1e6),
    ])
}
