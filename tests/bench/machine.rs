//! The machine that the numbers come from.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// What to know of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpus: usize,
    pub(crate) model: String,
    pub(crate) kernel: String,
    /// Share of the CPUs that had nothing to do before the first row, from 0 to 1.
    pub(crate) idle: f64,
}

impl Machine {
    /// Looks at this machine for `time`.
    pub(crate) fn observe(time: Duration) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let before = Ticks::now();
        std::thread::sleep(time);
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.map_or("unknown", |(_, model)| model).to_owned(),
            kernel: kernel.trim().to_owned(),
            idle: Ticks::now().idle_since(&before),
        }
    }
}

/// CPU time of the whole machine (proc_stat(5)).
#[derive(Debug, Default)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal; guests count as user already.
    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        Self {
            idle: fields.iter().skip(3).take(2).sum(),
            all: fields.iter().sum(),
        }
    }

    fn idle_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle);
        if all == 0 {
            1.0
        } else {
            idle as f64 / all as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_what_idle_and_waiting_for_disks_took() {
        let before = Ticks::parse("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 1 1 1\n");
        let after = Ticks::parse("cpu  120 0 110 860 10 0 0 0 70 0\n");
        assert!((after.idle_since(&before) - 0.7).abs() < 1e-9);
        assert!((Ticks::default().idle_since(&Ticks::default()) - 1.0).abs() < 1e-9);
    }
}
