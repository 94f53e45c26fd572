//! Remembers how often a key has been made to fail.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Counts requests per key, for "fail the first n".
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Whether this request of `key` is one of its first `times`.
    pub(super) fn fails(&self, key: &str, times: u32) -> bool {
        let mut counts = self.0.lock();
        let seen = counts.entry(key.to_owned()).or_default();
        *seen = seen.saturating_add(1);
        *seen <= times
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_n_of_each_key() {
        let failures = super::Failures::default();
        let got: Vec<bool> = ["a", "a", "b", "a", "b", "b"]
            .iter()
            .map(|key| failures.fails(key, 2))
            .collect();
        assert_eq!(got, [true, true, true, false, true, false]);
    }
}
