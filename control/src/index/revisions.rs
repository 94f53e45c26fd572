//! When which status changed, so that who has read all of them reads on from there.

use std::collections::{BTreeMap, HashMap};

use crate::source::Key;

/// Changes that are remembered of statuses that are gone; who comes later reads everything.
const MOST_GONE: usize = 1024;

/// The last change of every status, numbered.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    last: u64,
    /// Changes up to this one may be forgotten.
    forgotten: u64,
    by_revision: BTreeMap<u64, Key>,
    of: HashMap<Key, (u64, bool)>,
    gone: usize,
}

impl Revisions {
    /// The status of an object is another, or (when not `there`) none any more.
    pub(super) fn changed(&mut self, key: &Key, there: bool) {
        self.last += 1;
        let now = (self.last, there);
        if let Some((before, was_there)) = self.of.insert(key.clone(), now) {
            self.by_revision.remove(&before);
            self.gone -= usize::from(!was_there);
        }
        self.by_revision.insert(self.last, key.clone());
        self.gone += usize::from(!there);
        if self.gone > MOST_GONE {
            self.of.retain(|_, (_, there)| *there);
            let of = &self.of;
            self.by_revision.retain(|_, key| of.contains_key(key));
            (self.gone, self.forgotten) = (0, self.last);
        }
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whose status has changed after this revision; `None` when that is not known any more.
    pub(super) fn after(&self, revision: u64) -> Option<impl Iterator<Item = &Key>> {
        let known = (self.forgotten..=self.last).contains(&revision);
        known.then(|| self.by_revision.range(revision + 1..).map(|(_, key)| key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;

    fn key(name: &str) -> Key {
        Key {
            kind: Kind::HTTPRoute,
            namespace: "n".into(),
            name: name.into(),
        }
    }

    fn after(revisions: &Revisions, revision: u64) -> Option<Vec<String>> {
        let names = revisions.after(revision)?.map(|key| key.name.to_string());
        Some(names.collect())
    }

    #[test]
    fn each_status_is_told_once_after_its_last_change() {
        let mut revisions = Revisions::default();
        assert_eq!(after(&revisions, 0), Some(vec![]));
        for (name, there) in [("a", true), ("b", true), ("a", true), ("b", false)] {
            revisions.changed(&key(name), there);
        }
        for (revision, wanted) in [
            (0, Some(vec!["a", "b"])),
            (2, Some(vec!["a", "b"])),
            (3, Some(vec!["b"])),
            (4, Some(vec![])),
            (5, None),
        ] {
            let wanted = wanted.map(|it| it.into_iter().map(str::to_owned).collect());
            assert_eq!(after(&revisions, revision), wanted, "{revision}");
        }
    }

    #[test]
    fn what_is_gone_is_not_remembered_for_ever() {
        let mut revisions = Revisions::default();
        revisions.changed(&key("stays"), true);
        for number in 0..5000 {
            let key = key(&number.to_string());
            revisions.changed(&key, true);
            revisions.changed(&key, false);
        }
        assert!(revisions.of.len() <= MOST_GONE + 2);
        assert_eq!(revisions.of.len(), revisions.by_revision.len());
        assert_eq!(after(&revisions, 1), None, "too long ago");
        let last = revisions.last();
        revisions.changed(&key("stays"), true);
        assert_eq!(after(&revisions, last), Some(vec!["stays".to_owned()]));
    }
}
