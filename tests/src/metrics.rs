//! Reads pages of the Prometheus text format.

/// The sum of a metric over all series of a page that have these labels.
#[must_use]
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = rest.rsplit_once(' ')?;
        let fits = rest.starts_with(['{', ' ']) && wanted.iter().all(|it| series.contains(it));
        fits.then(|| value.parse::<f64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_chosen_by_their_labels() {
        let page =
            "# TYPE a counter\na{b=\"1\",c=\"2\"} 3\na{b=\"1\"} 4\na_total{b=\"1\"} 8\nd 16\n";
        for (name, labels, wanted) in [
            ("a", &[][..], 7.0),
            ("a", &[("b", "1")], 7.0),
            ("a", &[("b", "1"), ("c", "2")], 3.0),
            ("a", &[("b", "2")], 0.0),
            ("d", &[], 16.0),
        ] {
            assert_eq!(sum(page, name, labels), wanted, "{name} {labels:?}");
        }
    }
}
