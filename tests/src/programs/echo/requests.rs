//! How many requests came for each path, for `/requests`: tests ask here who got which, and how often.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Paths that are told apart; the requests for others are counted together, under an empty path.
const MOST_PATHS: usize = 1024;

/// Counts by path, without the query.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<BTreeMap<String, u64>>);

impl Requests {
    pub(super) fn count(&self, path: &str) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(path) {
            *count += 1;
        } else {
            let path = if counts.len() < MOST_PATHS { path } else { "" };
            *counts.entry(path.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_and_their_number_is_bounded() {
        let requests = Requests::default();
        for number in 0..2 * MOST_PATHS {
            requests.count(&format!("/{number}"));
            requests.count("/0");
        }
        let counts = requests.snapshot();
        assert_eq!(counts["/0"], 2 * MOST_PATHS as u64 + 1);
        assert_eq!(counts["/1"], 1);
        assert_eq!(counts[""], MOST_PATHS as u64);
        assert_eq!(counts.len(), MOST_PATHS + 1);
    }
}
