//! Counts of values by size.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};

use super::text::Format;

/// Upper bounds, in the unit of the histogram: Istio's buckets for milliseconds and bytes.
const BOUNDS: &[f64] = &[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
    10_000_000.0,
];

/// The same for seconds, of which a few are long: Istio's buckets for answers of DNS.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.01, 0.1, 1.0, 5.0];

/// For seconds of which most are a few thousandths or less: round trips and handshakes.
const SHORT: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// The values of one series.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    count: AtomicU64,
    sum: AtomicU64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self::with(BOUNDS)
    }
}

impl Buckets {
    /// For the metric of this name, which says its unit when that is the second, and whether it is Istio's.
    pub(super) fn of(metric: &str) -> Self {
        Self::with(match metric.strip_suffix("_seconds") {
            Some(metric) if metric.starts_with("istio_") => SECONDS,
            Some(_) => SHORT,
            None => BOUNDS,
        })
    }

    fn with(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: bounds.iter().map(|_| AtomicU64::default()).collect(),
            count: AtomicU64::default(),
            sum: AtomicU64::default(),
        }
    }

    /// How many buckets there are, with the one for all that is above the last bound.
    pub(super) fn len(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The bucket of a value.
    pub(super) fn place(&self, value: f64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    pub(super) fn add(&self, value: f64) {
        if let Some(bucket) = self.counts.get(self.place(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        // The closure always gives a value, so the update cannot fail.
        let _ = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Every sample of the series: the suffix of its name, its bucket with that one's `le`, and the value.
    pub(super) fn render(
        &self,
        format: Format,
        mut sample: impl FnMut(&str, Option<(usize, &str)>, &dyn Display),
    ) {
        let mut below = 0;
        for (place, (bound, count)) in self.bounds.iter().zip(&self.counts).enumerate() {
            below += count.load(Ordering::Relaxed);
            let le = match format {
                Format::Prometheus => bound.to_string(),
                // With a point, always.
                Format::OpenMetrics => format!("{bound:?}"),
            };
            sample("_bucket", Some((place, &le)), &below);
        }
        let count = self.count.load(Ordering::Relaxed).max(below);
        sample("_bucket", Some((self.bounds.len(), "+Inf")), &count);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        sample("_sum", None, &Number(sum));
        sample("_count", None, &count);
    }
}

/// A number as Prometheus reads it.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        super::text::number(&mut text, self.0);
        f.write_str(&text)
    }
}
