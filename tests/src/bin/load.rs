//! A client that measures; see `ambit_lab::programs::load`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use ambit_lab::programs::load;
use clap::Parser as _;

fn main() -> anyhow::Result<ExitCode> {
    let good = load::run(&load::options::Options::parse())?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
