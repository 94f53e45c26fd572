//! Medians of the samples.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::figures::{median, ratio};
use crate::rows::{Path, Quantity};

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) path: Path,
    pub(crate) quantity: Quantity,
    pub(crate) variant: String,
    pub(crate) value: f64,
}

/// One quantity on one path, for every variant that has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) path: Path,
    pub(crate) quantity: Quantity,
    pub(crate) title: &'static str,
    pub(crate) more_is_better: bool,
    pub(crate) variants: BTreeMap<String, Values>,
}

/// The samples of one variant, in the order in which they were taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Values {
    pub(crate) median: f64,
    pub(crate) samples: Vec<f64>,
}

/// Groups the samples by path and quantity, in the order of the enums.
pub(crate) fn summarize(samples: &[Sample], variants: &[String]) -> Vec<Outcome> {
    let mut groups: BTreeMap<(Path, Quantity), Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        groups
            .entry((sample.path, sample.quantity))
            .or_default()
            .push(sample);
    }
    groups
        .into_iter()
        .map(|((path, quantity), samples)| {
            let values = variants.iter().filter_map(|variant| {
                let own = samples.iter().filter(|sample| sample.variant == *variant);
                let samples: Vec<f64> = own.map(|sample| sample.value).collect();
                Some((
                    variant.clone(),
                    Values {
                        median: median(&samples)?,
                        samples,
                    },
                ))
            });
            Outcome {
                path,
                quantity,
                title: quantity.title(),
                more_is_better: quantity.more_is_better(),
                variants: values.collect(),
            }
        })
        .collect()
}

impl Outcome {
    /// How many times better `variant` is than `other`; see [`ratio`].
    pub(crate) fn ratio(&self, variant: &str, other: &str) -> Option<f64> {
        let ours = self.variants.get(variant)?.median;
        let theirs = self.variants.get(other)?.median;
        ratio(ours, theirs, self.more_is_better)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_above_one_are_better_both_ways() {
        let names = ["ambit".to_owned(), "other".to_owned()];
        for (quantity, ambit, other, expected) in [
            (Quantity::Requests, 30.0, 20.0, Some(1.5)),
            (Quantity::LatencyP99, 30.0, 60.0, Some(2.0)),
            (Quantity::OneStreamCpu, 0.0, 1.0, None),
        ] {
            let sample = |variant: &str, value| Sample {
                path: Path::CrossNode,
                quantity,
                variant: variant.to_owned(),
                value,
            };
            let outcomes = summarize(&[sample("ambit", ambit), sample("other", other)], &names);
            assert_eq!(
                outcomes[0].ratio("ambit", "other"),
                expected,
                "{quantity:?}"
            );
        }
    }
}
