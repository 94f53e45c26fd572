//! Readers that take their time: each asks once and reads so many bytes a second.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::failure::{Failure, Stage};
use super::options::Slow;
use super::record::{Errors, Totals};
use super::report::Report;
use super::target::{self, Resolved};

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(100);

/// Says on standard output when all have read for half of the time, and goes on.
pub(super) fn run(arguments: &Slow, json: bool) -> anyhow::Result<Report> {
    let address = arguments.url.address();
    let resolved = target::resolve(address, arguments.family, arguments.timeout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start a runtime")?;
    runtime.block_on(read(arguments, resolved, json))
}

async fn read(arguments: &Slow, resolved: Resolved, json: bool) -> anyhow::Result<Report> {
    let start = Instant::now();
    let until = start + arguments.duration;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        arguments.url.path_and_query(),
        arguments.url.authority()
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..arguments.connections {
        let (resolved, request) = (resolved.clone(), request.clone());
        tasks.spawn(one(resolved, request, arguments.rate, until));
    }
    tokio::time::sleep_until((start + arguments.duration / 2).into()).await;
    announce(arguments.connections, json)?;
    let mut totals = Totals::default();
    let mut errors = Errors::default();
    while let Some(task) = tasks.join_next().await {
        match task.context("a reader's task panicked")? {
            Ok(bytes) => {
                totals.requests += 1;
                totals.received_bytes += bytes;
            }
            Err(failure) => errors.add(failure),
        }
    }
    totals.errors = errors;
    let target = arguments.url.uri().to_string();
    let mut report = Report::of_requests("slow", target, start.elapsed(), totals);
    report.connections = Some(arguments.connections);
    report.requests_per_second = None;
    Ok(report)
}

/// How many bytes came.
async fn one(
    resolved: Resolved,
    request: String,
    rate: u64,
    until: Instant,
) -> Result<u64, Failure> {
    let mut stream = resolved.connect().await?;
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(|error| Failure::io(Stage::Send, &error))?;
    let share = rate * u64::try_from(PAUSE.as_millis()).unwrap_or(1) / 1000;
    let mut piece = vec![0; usize::try_from(share.max(1)).unwrap_or(usize::MAX)];
    let mut received = 0;
    let mut next = Instant::now();
    while next < until {
        let reading = tokio::time::timeout_at(until.into(), stream.read(&mut piece));
        match reading.await {
            Ok(Ok(0)) | Err(_) => break,
            Ok(Ok(read)) => received += read as u64,
            Ok(Err(error)) => return Err(Failure::io(Stage::Receive, &error)),
        }
        next += PAUSE;
        tokio::time::sleep_until(next.into()).await;
    }
    Ok(received)
}

fn announce(readers: u32, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "reading": readers }))?;
    } else {
        writeln!(out, "{readers} are reading")?;
    }
    out.flush()
}
