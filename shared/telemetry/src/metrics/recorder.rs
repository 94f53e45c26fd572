//! The boundary to the `metrics` crate: its counters, gauges and histograms as text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use metrics_util::registry::{Registry, Storage};
use parking_lot::RwLock;

use super::histogram::Buckets;
use super::text::{self, Format};

/// Keeps what the macros of the `metrics` crate record.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    registry: Registry<Key, Cells>,
    help: RwLock<BTreeMap<String, SharedString>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self(Arc::new(Inner {
            registry: Registry::new(Cells),
            help: RwLock::default(),
        }))
    }
}

impl Recorder {
    /// Writes everything that was recorded, a family at a time, in the text format of Prometheus.
    pub fn render(&self, out: &mut String) {
        self.render_as(out, Format::Prometheus);
    }

    /// The same in any format.
    pub(super) fn render_as(&self, out: &mut String, format: Format) {
        let counters = families(self.0.registry.get_counter_handles());
        let gauges = families(self.0.registry.get_gauge_handles());
        let histograms = families(self.0.registry.get_histogram_handles());
        for (name, all) in counters {
            self.header(out, format, &name, "counter");
            for (key, cell) in all {
                sample(out, &name, "", &key, None);
                let _ = writeln!(out, " {}", cell.load(Ordering::Relaxed));
            }
        }
        for (name, all) in gauges {
            self.header(out, format, &name, "gauge");
            for (key, cell) in all {
                sample(out, &name, "", &key, None);
                out.push(' ');
                text::number(out, f64::from_bits(cell.load(Ordering::Relaxed)));
                out.push('\n');
            }
        }
        for (name, all) in histograms {
            self.header(out, format, &name, "histogram");
            for (key, cell) in all {
                cell.render(format, |suffix, bucket, value| {
                    sample(out, &name, suffix, &key, bucket.map(|(_, le)| le));
                    let _ = writeln!(out, " {value}");
                });
            }
        }
    }

    fn header(&self, out: &mut String, format: Format, name: &str, kind: &str) {
        let help = self.0.help.read().get(name).cloned().unwrap_or_default();
        text::family(out, format, name, kind, &help);
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        let name = text::metric_name(name.as_str());
        self.0.help.write().insert(name, help);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let registry = &self.0.registry;
        registry.get_or_create_counter(key, |cell| Counter::from_arc(cell.clone()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let registry = &self.0.registry;
        registry.get_or_create_gauge(key, |cell| Gauge::from_arc(cell.clone()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let registry = &self.0.registry;
        registry.get_or_create_histogram(key, |cell| Histogram::from_arc(cell.clone()))
    }
}

/// How the registry stores a metric.
struct Cells;

impl Storage<Key> for Cells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Buckets>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        Arc::new(Buckets::of(key.name()))
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

/// Metrics by exported name, each with its series in a stable order.
fn families<T>(handles: impl IntoIterator<Item = (Key, T)>) -> BTreeMap<String, Vec<(Key, T)>> {
    let mut families: BTreeMap<String, Vec<(Key, T)>> = BTreeMap::new();
    for (key, cell) in handles {
        let name = text::metric_name(key.name());
        families.entry(name).or_default().push((key, cell));
    }
    for all in families.values_mut() {
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    families
}

/// Writes a sample's name and labels.
fn sample(out: &mut String, name: &str, suffix: &str, key: &Key, le: Option<&str>) {
    out.push_str(name);
    out.push_str(suffix);
    let mut first = true;
    let mut brace = '{';
    let labels = key
        .labels()
        .map(|l| (text::metric_name(l.key()), l.value()));
    for (label, value) in labels.chain(le.map(|le| ("le".to_owned(), le))) {
        if first {
            out.push(std::mem::replace(&mut brace, '}'));
        }
        text::label(out, &mut first, &label, value);
    }
    if !first {
        out.push('}');
    }
}
