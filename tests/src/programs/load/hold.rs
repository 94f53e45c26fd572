//! Opens connections, proves each with an echo, holds them, and proves them again; or leaves out the proofs.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{Barrier, Semaphore, oneshot};

use super::engine::Connection as _;
use super::failure::{Failure, Stage};
use super::options::Hold;
use super::record::{Errors, Totals};
use super::report::Report;
use super::request_response::Echoed;
use super::target::{self, Resolved};
use crate::programs::pattern;

/// Connection attempts under way at once: below the usual listen backlog.
const CONNECTING: usize = 64;
/// Bytes of an echo.
const ECHO: u64 = 16;

/// Says on standard output when the connections are open, then holds them.
pub(super) fn run(arguments: &Hold, json: bool) -> anyhow::Result<Report> {
    let resolved = target::resolve(&arguments.address, arguments.family, arguments.timeout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start a runtime")?;
    let outcome = runtime.block_on(hold(arguments, resolved, json));
    // Standard input may still be waited for.
    runtime.shutdown_background();
    outcome
}

async fn hold(arguments: &Hold, resolved: Resolved, json: bool) -> anyhow::Result<Report> {
    let start = Instant::now();
    let opening = Arc::new(Semaphore::new(CONNECTING));
    let count = arguments.connections as usize;
    let held = Arc::new(Barrier::new(count + 1));
    let release = Arc::new(Semaphore::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (resolved, opening) = (resolved.clone(), opening.clone());
        let (held, release) = (held.clone(), release.clone());
        let (timeout, silent) = (arguments.timeout, arguments.silent);
        tasks.spawn(async move {
            let opened = async {
                let _permit = opening.acquire().await;
                let stream = resolved.connect().await?;
                let mut connection = Echoed::new(stream, pattern::piece(0, ECHO));
                if !silent {
                    echo(&mut connection, timeout).await?;
                }
                Ok(connection)
            };
            let opened: Result<_, Failure> = opened.await;
            held.wait().await;
            let mut connection = opened?;
            let _permit = release.acquire().await;
            if silent {
                return Ok(());
            }
            echo(&mut connection, timeout).await
        });
    }
    held.wait().await;
    announce(count, start.elapsed(), json)?;
    match arguments.hold {
        Some(duration) => tokio::time::sleep(duration).await,
        None => end_of_input().await,
    }
    release.add_permits(CONNECTING);
    let mut totals = Totals::default();
    let mut errors = Errors::default();
    while let Some(task) = tasks.join_next().await {
        match task.context("a connection's task panicked")? {
            Ok(()) => totals.requests += 1,
            Err(failure) => errors.add(failure),
        }
    }
    totals.errors = errors;
    let mut report = Report::of_requests(
        "hold",
        arguments.address.to_string(),
        start.elapsed(),
        totals,
    );
    report.connections = Some(arguments.connections);
    report.requests_per_second = None;
    report.received_bytes = None;
    Ok(report)
}

async fn echo(connection: &mut Echoed, timeout: Duration) -> Result<(), Failure> {
    match tokio::time::timeout(timeout, connection.exchange()).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Failure::timeout(Stage::Receive)),
    }
}

fn announce(connections: usize, after: Duration, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let seconds = after.as_secs_f64();
    if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({ "holding": connections, "seconds": seconds })
        )?;
    } else {
        writeln!(
            out,
            "holding {connections} connections after {seconds:.3} s"
        )?;
    }
    out.flush()
}

async fn end_of_input() {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let mut scratch = [0; 64];
        while std::io::stdin()
            .lock()
            .read(&mut scratch)
            .is_ok_and(|read| read > 0)
        {}
        // The receiver lives as long as the wait below.
        let _ = ended.send(());
    });
    let _ = wait.await;
}
