//! Counts what comes most often, in so many rows and no more, whatever comes.
//!
//! When something comes that has no row, the one with the smallest count gives up its row, and the newcomer goes on from that
//! count (Metwally, Agrawal and El Abbadi, "Space-Saving", 2005). So whatever is more than one of `most` of all that came has a row,
//! and all counts together are as many as came.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::SystemTime;

/// Counts by key.
#[derive(Debug)]
pub(super) struct Heaviest<K> {
    most: usize,
    rows: HashMap<K, Tally>,
    total: u64,
    displaced: u64,
}

/// How often something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// At most so often,
    pub(super) count: u64,
    /// and at most so much less often: what was counted in this row for others.
    pub(super) over: u64,
    /// When it came first, since it has this row.
    pub(super) first: SystemTime,
    /// When it came last.
    pub(super) last: SystemTime,
}

impl<K: Hash + Eq + Clone> Heaviest<K> {
    /// Nothing yet, in `most` rows at most, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            rows: HashMap::new(),
            total: 0,
            displaced: 0,
        }
    }

    /// Counts one of `key`, at `now`.
    pub(super) fn count(&mut self, key: K, now: SystemTime) {
        self.total += 1;
        if let Some(row) = self.rows.get_mut(&key) {
            row.count += 1;
            row.last = now;
            return;
        }
        let over = match self.rows.len() < self.most {
            true => 0,
            false => self.displace(),
        };
        let row = Tally {
            count: over + 1,
            over,
            first: now,
            last: now,
        };
        self.rows.insert(key, row);
    }

    /// Frees the row with the smallest count; of several, the one that is longest ago.
    fn displace(&mut self) -> u64 {
        let weight = |(_, row): &(&K, &Tally)| (row.count, row.last);
        let weakest = self.rows.iter().min_by_key(weight);
        let weakest = weakest.map(|(key, _)| key.clone());
        let removed = weakest.and_then(|key| self.rows.remove(&key));
        self.displaced += 1;
        removed.map_or(0, |row| row.count)
    }

    /// Whatever has a row, the most frequent first; of those that came as often, the later one.
    pub(super) fn rows(&self) -> Vec<(&K, Tally)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(key, row)| (key, *row)).collect();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse((row.count, row.last)));
        rows
    }

    /// How much came.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How often a row was given up.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn what_fits_is_counted_exactly() {
        let mut heaviest = Heaviest::new(3);
        for (second, key) in ["a", "b", "a", "c", "a", "b"].into_iter().enumerate() {
            heaviest.count(key, at(second as u64));
        }
        let row = |count, first, last| Tally {
            count,
            over: 0,
            first: at(first),
            last: at(last),
        };
        let expected = [
            (&"a", row(3, 0, 4)),
            (&"b", row(2, 1, 5)),
            (&"c", row(1, 3, 3)),
        ];
        assert_eq!(heaviest.rows(), expected);
        assert_eq!((heaviest.total(), heaviest.displaced()), (6, 0));
    }

    #[test]
    fn whoever_makes_up_names_grows_nothing_and_hides_nobody() {
        let mut heaviest = Heaviest::new(10);
        for number in 0..10_000_u64 {
            heaviest.count(number, at(number));
            // One of eight is always the same.
            if number % 7 == 0 {
                heaviest.count(u64::MAX, at(number));
            }
        }
        let rows = heaviest.rows();
        assert_eq!(rows.len(), 10);
        let (first, tally) = rows[0];
        assert_eq!(*first, u64::MAX);
        let came = 10_000_u64.div_ceil(7);
        assert!(
            (tally.count - tally.over..=tally.count).contains(&came),
            "{tally:?}"
        );
        let all: u64 = rows.iter().map(|(_, row)| row.count).sum();
        assert_eq!(all, heaviest.total());
        assert_eq!(heaviest.total(), 10_000 + came);
        assert!(heaviest.displaced() > 9_000, "{}", heaviest.displaced());
    }

    #[test]
    fn of_equal_ones_the_oldest_goes() {
        let mut heaviest = Heaviest::new(2);
        for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
            heaviest.count(key, at(second as u64));
        }
        let rows = heaviest.rows();
        let keys: Vec<_> = rows
            .iter()
            .map(|(key, row)| (**key, row.count, row.over))
            .collect();
        assert_eq!(keys, [("c", 2, 1), ("b", 1, 0)]);
    }
}
