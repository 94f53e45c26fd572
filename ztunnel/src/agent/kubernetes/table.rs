//! A collection as a watch tells it: what was listed, and what has changed since.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

/// Objects by key. While a list is told anew, the former one holds.
#[derive(Debug)]
pub(super) struct Table<T> {
    known: BTreeMap<String, T>,
    fresh: BTreeMap<String, T>,
    complete: bool,
    trouble: Option<String>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            fresh: BTreeMap::new(),
            complete: false,
            trouble: None,
        }
    }
}

impl<T: PartialEq> Table<T> {
    /// Takes in what a watch says. Whether something else is listed now.
    pub(super) fn hear(&mut self, event: Result<Event<(String, T)>, String>) -> bool {
        match event {
            Err(trouble) => {
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(
                        trouble,
                        "the API server does not tell; what it told last holds"
                    );
                }
                self.trouble = Some(trouble);
                false
            }
            Ok(event) => {
                self.trouble = None;
                self.take(event)
            }
        }
    }

    fn take(&mut self, event: Event<(String, T)>) -> bool {
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply((key, object)) => {
                self.fresh.insert(key, object);
            }
            Event::InitDone => {
                let fresh = std::mem::take(&mut self.fresh);
                let changed = !self.complete || fresh != self.known;
                (self.known, self.complete) = (fresh, true);
                return changed;
            }
            Event::Apply((key, object)) => {
                let changed = self.known.get(&key) != Some(&object);
                self.known.insert(key, object);
                return changed && self.complete;
            }
            Event::Delete((key, _)) => return self.known.remove(&key).is_some() && self.complete,
        }
        false
    }

    /// What is listed.
    ///
    /// # Errors
    /// Nothing was, and why.
    pub(super) fn listed(&self) -> Result<&BTreeMap<String, T>, String> {
        match (self.complete, &self.trouble) {
            (true, _) => Ok(&self.known),
            (false, Some(trouble)) => Err(trouble.clone()),
            (false, None) => Err("the API server has not listed them yet".to_owned()),
        }
    }
}

/// The same event of something else.
pub(super) fn map<A, B>(event: Event<A>, of: impl FnOnce(A) -> B) -> Event<B> {
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(of(object)),
        Event::Apply(object) => Event::Apply(of(object)),
        Event::Delete(object) => Event::Delete(of(object)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_when_it_is_complete() {
        let mut table = Table::default();
        let object = |key: &str, value: u8| (key.to_owned(), value);
        type Heard = Result<Event<(String, u8)>, String>;
        type Listed = Result<&'static str, &'static str>;
        let cases: [(&str, Heard, bool, Listed); 13] = [
            ("trouble", Err("no route".into()), false, Err("no route")),
            (
                "begins",
                Ok(Event::Init),
                false,
                Err("the API server has not listed them yet"),
            ),
            (
                "part",
                Ok(Event::InitApply(object("a", 1))),
                false,
                Err("the API server has not listed them yet"),
            ),
            ("complete", Ok(Event::InitDone), true, Ok("a1")),
            ("new", Ok(Event::Apply(object("b", 1))), true, Ok("a1 b1")),
            ("same", Ok(Event::Apply(object("b", 1))), false, Ok("a1 b1")),
            (
                "changed",
                Ok(Event::Apply(object("a", 2))),
                true,
                Ok("a2 b1"),
            ),
            ("gone", Ok(Event::Delete(object("b", 1))), true, Ok("a2")),
            (
                "gone again",
                Ok(Event::Delete(object("b", 1))),
                false,
                Ok("a2"),
            ),
            ("cut off", Err("closed".into()), false, Ok("a2")),
            ("anew", Ok(Event::Init), false, Ok("a2")),
            (
                "another",
                Ok(Event::InitApply(object("c", 3))),
                false,
                Ok("a2"),
            ),
            ("replaced", Ok(Event::InitDone), true, Ok("c3")),
        ];
        for (name, event, changed, listed) in cases {
            assert_eq!(table.hear(event), changed, "{name}");
            let words = |(key, value): (&String, &u8)| format!("{key}{value}");
            let now = table.listed().map(|known| {
                let all: Vec<_> = known.iter().map(words).collect();
                all.join(" ")
            });
            let expected = listed.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(now, expected, "{name}");
        }
        table.hear(Ok(Event::Init));
        table.hear(Ok(Event::InitApply(object("c", 3))));
        assert!(
            !table.hear(Ok(Event::InitDone)),
            "the same list is no change"
        );
    }
}
