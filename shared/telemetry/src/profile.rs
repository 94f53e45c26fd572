//! Where this process spends its processor time, for pprof (`github.com/google/pprof`).
//!
//! Samples are taken in a handler of SIGPROF, which the kernel sends whenever the process has used a piece of processor time,
//! whichever thread did. What is not asked for costs nothing.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use http::{Method, StatusCode};
use nix::sys::signal::{Signal, raise};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, UnresolvedReport};
use pprof_util::{StackProfile, WeightedStack};

use crate::admin::{Answer, Query, Router, answer, text};

/// Seconds that are looked at.
const SECONDS: RangeInclusive<u32> = 1..=50;
const DEFAULT_SECONDS: u32 = 30;
/// Samples for each second of processor time. The default does not beat in time with timers of 10 ms.
const HZ: RangeInclusive<u32> = 1..=1000;
const DEFAULT_HZ: u32 = 99;
/// Samples of one busy core that are asked for at most: each may take a kibibyte of [`SHARED_MEMORY`].
const SAMPLES: u32 = 10_000;
/// Memory that a container with a read-only root can write to.
const SHARED_MEMORY: &str = "/dev/shm";
const TAKEN: &str = "a profile is being taken; ask again when it is done\n";
/// The media type of a profile, which is packed by gzip.
const PPROF: &str = "application/octet-stream";

/// `GET /debug/pprof/profile?seconds=30&hz=99`: as [`cpu`] answers.
#[must_use]
pub fn route(router: Router) -> Router {
    let about = "processor time for pprof; ?seconds=30&hz=99";
    router.route(
        Method::GET,
        "/debug/pprof/profile",
        about,
        |query| async move { cpu(&query).await },
    )
}

/// A profile of processor time over the next `seconds` (1 to 50, 30 unless told), with `hz` (1 to 1000, 99 unless told) samples
/// for each second of it, the product 10,000 at most. 409 while another one is being taken, 400 for other numbers, 501 on other processors
/// than x86-64: the unwinder begins at a wrong place there.
pub async fn cpu(query: &Query) -> Answer {
    let (seconds, hz) = match asked(query) {
        Ok(asked) => asked,
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    if cfg!(not(target_arch = "x86_64")) {
        let only = "processor time is profiled on x86-64 alone\n";
        return text(StatusCode::NOT_IMPLEMENTED, only);
    }
    let running = match start(hz) {
        Ok(running) => running,
        Err(pprof::Error::Running) => return text(StatusCode::CONFLICT, TAKEN),
        Err(error) => return failed(&error),
    };
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    // Stacks are compared and names looked up in the program's file: not on the thread that serves.
    let taken = tokio::task::spawn_blocking(move || {
        let report = running.report().build_unresolved();
        drop(running);
        report.map(|report| encode(&report, hz))
    });
    match taken.await {
        Ok(Ok(profile)) => given(profile),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn asked(query: &Query) -> Result<(u32, u32), String> {
    let seconds = number(query, "seconds", SECONDS, DEFAULT_SECONDS)?;
    let hz = number(query, "hz", HZ, DEFAULT_HZ)?;
    match seconds * hz {
        0..=SAMPLES => Ok((seconds, hz)),
        samples => Err(format!(
            "seconds times hz is {samples}: ask for {SAMPLES} samples at most\n"
        )),
    }
}

/// The answer with a profile, packed as pprof reads it.
#[must_use]
pub fn given(profile: Vec<u8>) -> Answer {
    answer(StatusCode::OK, PPROF, profile)
}

/// Has what profilers keep in files kept where there is always room for it: containers' roots are read-only.
pub fn use_shared_memory() {
    let path = Path::new(SHARED_MEMORY);
    if path.is_dir() {
        // Err: it was said before.
        let _ = tempfile::env::override_temp_dir(path);
    }
}

fn start(hz: u32) -> pprof::Result<ProfilerGuard<'static>> {
    /// The first sample reads the program's unwinding tables, which takes memory: it must not come upon a thread that is just
    /// taking some itself. So it is taken here, long before another one is due.
    static FIRST: Once = Once::new();
    use_shared_memory();
    let running = |hz| ProfilerGuardBuilder::default().frequency(hz).build();
    FIRST.call_once(|| {
        // Err: as the next one is about to say.
        if let Ok(_running) = running(1) {
            let _ = raise(Signal::SIGPROF);
        }
    });
    running(i32::try_from(hz).expect("within its range"))
}

/// The answer where none can be taken.
#[must_use]
pub fn failed(error: &dyn fmt::Display) -> Answer {
    let error = format!("no profile could be taken: {error}\n");
    text(StatusCode::INTERNAL_SERVER_ERROR, error)
}

fn number(
    query: &Query,
    name: &str,
    range: RangeInclusive<u32>,
    default: u32,
) -> Result<u32, String> {
    let Some(given) = query.value(name) else {
        return Ok(default);
    };
    given
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = range.into_inner();
            format!("{name} is a number from {least} to {most}, not {given:?}\n")
        })
}

/// The samples as pprof reads them, in nanoseconds, with the names of threads as labels.
fn encode(report: &UnresolvedReport, hz: u32) -> Vec<u8> {
    let period = 1e9 / f64::from(hz);
    let mut profile = StackProfile::default();
    for (frames, &count) in &report.data {
        let mut addrs: Vec<usize> = frames.frames.iter().map(|frame| frame.ip).collect();
        // One is taken from each, for a return address is behind the call that it belongs to. The first one is where the thread was.
        if let Some(first) = addrs.first_mut() {
            *first += 1;
        }
        addrs.retain(|&addr| addr > 0);
        addrs.reverse();
        // Counts below 2^52 are exact.
        #[allow(clippy::cast_precision_loss)]
        let weight = count as f64 * period;
        let name = &frames.thread_name[..frames.thread_name_length];
        let thread = String::from_utf8_lossy(name);
        profile.push_stack(WeightedStack { addrs, weight }, Some(&thread));
    }
    for mapping in mappings::MAPPINGS.iter().flatten() {
        profile.push_mapping(mapping.clone());
    }
    let unit = ("cpu", "nanoseconds");
    profile.to_pprof(unit, unit, Some("thread".to_owned()))
}

#[cfg(test)]
mod tests;
