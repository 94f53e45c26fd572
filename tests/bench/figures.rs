//! Numbers as all benchmarks count, compare and show them.

/// The middle one; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// How many times better `ours` is than `theirs`; above one means better whichever way the quantity counts. `None` when
/// there is nothing to divide by.
pub(crate) fn ratio(ours: f64, theirs: f64, more_is_better: bool) -> Option<f64> {
    let (numerator, denominator) = if more_is_better {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    (denominator > 0.0).then(|| numerator / denominator)
}

/// Three significant digits, thousands kept whole.
pub(crate) fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![9.0, 1.0], Some(5.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
        ] {
            assert_eq!(median(&values), expected, "{values:?}");
        }
    }
}
