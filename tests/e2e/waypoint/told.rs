//! What the waypoint of namespace `mesh` tells of requests: its series and the lines of its access log.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};

pub(super) const WAYPOINT: &str = "mesh/deploy/waypoint";
const PATIENCE: Duration = Duration::from_secs(10);

/// The labels of a series.
pub(super) type Labels = BTreeMap<String, String>;

/// The series of a metric with their values.
pub(super) fn series(lab: &Lab, metric: &str) -> Vec<(Labels, f64)> {
    let url = "http://127.0.0.1:15020/stats/prometheus";
    let text = lab.load(WAYPOINT, &["get", "--fail", url]).success();
    let samples = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(metric)?.rsplit_once(' ')?;
        let labels = labels.strip_prefix('{')?.strip_suffix('}')?;
        Some((parse(labels), value.parse().expect("a number")))
    });
    samples.collect()
}

/// No value in these tests holds a comma or a quote.
fn parse(labels: &str) -> Labels {
    labels
        .split(',')
        .map(|label| {
            let (name, value) = label.split_once('=').expect("a name and a value");
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

/// The one line of the access log that holds all of `parts`.
pub(super) fn line(lab: &Lab, parts: &[&str]) -> String {
    let found = so_many_lines(lab, 1, parts);
    found.into_iter().next().unwrap_or_default()
}

/// The lines of the access log that hold all of `parts`, so many and no more. They are waited for: a line is written when
/// its request is over, which a client may know before.
pub(super) fn so_many_lines(lab: &Lab, count: usize, parts: &[&str]) -> Vec<String> {
    let what = format!("{count} lines with {parts:?}");
    let found = eventually(&what, PATIENCE, || {
        let lines = lines(lab, parts);
        (lines.len() >= count).then_some(lines)
    });
    assert_eq!(found.len(), count, "{parts:?}: {found:#?}");
    found
}

/// The lines of the access log so far that hold all of `parts`.
pub(super) fn lines(lab: &Lab, parts: &[&str]) -> Vec<String> {
    let log = lab.logs(WAYPOINT);
    // Of requests, and of connections that were relayed.
    let lines = log
        .lines()
        .filter(|line| line.contains("HTTP/") || line.contains("\"- - -\""));
    lines
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .map(ToOwned::to_owned)
        .collect()
}
