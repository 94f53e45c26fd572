//! Measures the node proxy beside no proxy at all and beside other node proxies, in the lab. See README.md.

#![forbid(unsafe_code)]

mod binaries;
mod cleanup;
mod figures;
mod lab;
mod machine;
mod measure;
mod options;
mod process;
mod push;
mod report;
mod rows;
mod scene;
mod summary;

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;

use machine::Machine;
use measure::{Bench, Variant};
use options::Options;
use report::Report;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let plan = options.plan()?;
    let binaries = binaries::find(!options.no_build)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let cleanup = cleanup::on_interrupt(folder.path().to_owned())?;
    let mut bench = Bench::default();
    for (number, (name, ztunnel)) in options.proxies(&binaries).into_iter().enumerate() {
        progress(&format!("starting a lab with {name}"));
        let lab = lab::Lab::up(&binaries, folder.path(), &name, &ztunnel, &cleanup)?;
        // No proxy takes part in a namespace outside the mesh: any lab is as good as the other.
        if number == 0 {
            bench.add(Variant::direct(&lab)?);
        }
        bench.add(Variant::meshed(&name, &lab)?);
        bench.keep(lab);
    }
    let machine = Machine::observe(Duration::from_secs(1));
    let measured = bench.run(&plan, &progress);
    let results = summary::summarize(&measured.samples, &bench.names());
    let report = Report::new(machine, &plan, bench.names(), results, measured.failures);
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(report.markdown().as_bytes())?;
    out.flush()?;
    bench.down()?;
    anyhow::ensure!(report.is_complete(), "not everything could be measured");
    Ok(())
}

fn progress(text: &str) {
    eprintln!("bench: {text}");
}
