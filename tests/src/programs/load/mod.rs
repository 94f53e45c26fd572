//! `load`: a client that measures, and small unmodified clients for tests.
//!
//! Requests run in a closed loop (the next one starts when the last one ended) or in an open loop (`--rate`: they start on
//! a schedule whatever the answers do, see `pace`). The exit status says whether there were more errors than allowed.

mod bulk;
mod datagrams;
mod engine;
mod failure;
mod get;
mod grpc;
mod hold;
mod http1;
mod http2;
pub mod options;
mod pace;
mod record;
mod report;
mod request_response;
mod slow;
mod target;
mod tcp;
mod udp;
mod websocket;

use std::io::{self, Write as _};

use options::{Command, Options};
use report::Report;

/// Runs the command; true when it went well enough.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let report = match &options.command {
        Command::Http(arguments) if arguments.h2 => http2::run(arguments)?,
        Command::Http(arguments) => http1::run(arguments)?,
        Command::Rr(arguments) => request_response::run(arguments)?,
        Command::Grpc(arguments) => grpc::run(arguments)?,
        Command::Websocket(arguments) => websocket::run(arguments)?,
        Command::Bulk(arguments) => bulk::run(arguments)?,
        Command::Hold(arguments) => hold::run(arguments, options.json)?,
        Command::Slow(arguments) => slow::run(arguments, options.json)?,
        Command::Tcp(arguments) => {
            tcp::run(arguments)?;
            return Ok(true);
        }
        Command::Udp(arguments) => return udp::run(arguments),
        Command::Get(arguments) => return get::run(arguments),
    };
    print(&report, options.json)?;
    Ok(report.errors.total <= options.max_errors)
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
    } else {
        write!(out, "{}", report.table())?;
    }
    out.flush()
}
