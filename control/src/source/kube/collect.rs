//! What the API server's news come to: events for the index, and what is wrong. Pure.
//!
//! Nothing is given before every kind has been listed once or is known to be absent: proxies would take an
//! incomplete mesh for the whole one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::item::Item;
use crate::cluster::follow::News;
use crate::parameters;
use crate::source::{Batch, Event, Key, Kind, Object, Origin, Problem};

/// What is followed: a kind, or one object that something refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Followed {
    /// All objects of it.
    Kind(Kind),
    /// This one.
    One(Key),
}

/// News since the last batch, and what is known.
#[derive(Debug)]
pub struct Collected {
    followed: BTreeMap<Followed, Known>,
    events: Vec<Event>,
    problems: BTreeMap<Wrong, String>,
    wrong_changed: bool,
    ready: bool,
    given: bool,
    /// Certificates that policies refer to, and parameters of Gateways.
    references: BTreeMap<Key, BTreeSet<Key>>,
}

#[derive(Debug, Default)]
struct Known {
    objects: HashMap<Key, Box<str>>,
    listing: Option<(u64, HashSet<Key>)>,
    /// The round of the last complete list.
    listed: Option<u64>,
    trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Followed(Followed),
    Object(Key),
    Nameless(Kind),
}

impl Collected {
    /// Nothing is known of these kinds.
    #[must_use]
    pub fn new(kinds: &[Kind]) -> Self {
        let kinds = kinds.iter().map(|kind| Followed::Kind(*kind));
        Self {
            followed: kinds.map(|of| (of, Known::default())).collect(),
            events: Vec::new(),
            problems: BTreeMap::new(),
            wrong_changed: false,
            ready: false,
            given: false,
            references: BTreeMap::new(),
        }
    }

    /// Takes in news.
    pub fn take(&mut self, of: &Followed, news: News<Item>) {
        let Some(known) = self.followed.get_mut(of) else {
            return;
        };
        match news {
            News::Begin(round) => {
                known.listing = Some((round, HashSet::new()));
                if let Followed::Kind(kind) = of {
                    self.wrong(Wrong::Nameless(*kind), None);
                }
            }
            News::Set(item) => self.set(of, item),
            News::Gone(item) => {
                if let Some(key) = item.key {
                    known.objects.remove(&key);
                    self.gone(key);
                }
            }
            News::Complete => {
                let Some((round, listed)) = known.listing.take() else {
                    return;
                };
                known.listed = Some(round);
                let gone: Vec<Key> = known
                    .objects
                    .extract_if(|key, _| !listed.contains(key))
                    .map(|(key, _)| key)
                    .collect();
                gone.into_iter().for_each(|key| self.gone(key));
                self.listed();
            }
            News::Absent(round) => {
                known.listing = None;
                known.listed = Some(round);
                let gone: Vec<Key> = known.objects.drain().map(|(key, _)| key).collect();
                gone.into_iter().for_each(|key| self.gone(key));
                self.wrong(Wrong::Followed(of.clone()), None);
                self.listed();
            }
            News::Trouble(why) => {
                known.trouble = Some(why.clone());
                self.wrong(Wrong::Followed(of.clone()), Some(why));
                self.listed();
            }
            News::Well => {
                known.trouble = None;
                self.wrong(Wrong::Followed(of.clone()), None);
            }
        }
    }

    /// How many events wait to be given.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    /// Kinds that have to be listed before anything is given, with what is in the way.
    pub fn missing(&self) -> impl Iterator<Item = (&Followed, Option<&str>)> {
        let missing = self.followed.iter().filter(|(of, known)| !known.told(of));
        missing.map(|(of, known)| (of, known.trouble.as_deref()))
    }

    /// Whether everything was listed in this round or later; an error when something cannot be listed.
    ///
    /// # Errors
    /// What the API server does not tell, and why.
    pub fn listed_in(&self, round: u64) -> Result<bool, String> {
        let mut all = true;
        for (of, known) in &self.followed {
            if known.listed.is_none_or(|listed| listed < round) {
                if let Some(why) = &known.trouble {
                    return Err(format!("{of}: {why}"));
                }
                all = false;
            }
        }
        Ok(all)
    }

    /// Events since the last batch with everything that is wrong now; `None` when there is nothing new, or
    /// it is too early.
    pub fn batch(&mut self) -> Option<Batch> {
        if !self.ready || (self.given && self.events.is_empty() && !self.wrong_changed) {
            return None;
        }
        self.given = true;
        self.wrong_changed = false;
        let problems = self.problems.iter().map(|(wrong, error)| Problem {
            origin: Origin::default(),
            object: wrong.to_string(),
            error: error.clone(),
        });
        Some(Batch {
            problems: problems.collect(),
            events: std::mem::take(&mut self.events),
            unhandled: Vec::new(),
        })
    }

    /// The single objects that are referred to.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<Key> {
        self.references.values().flatten().cloned().collect()
    }

    /// Follows exactly these single objects from now on.
    pub fn follow(&mut self, wanted: &BTreeSet<Key>) {
        let over = |of: &Followed| matches!(of, Followed::One(key) if !wanted.contains(key));
        let gone: Vec<Followed> = self
            .followed
            .keys()
            .filter(|of| over(of))
            .cloned()
            .collect();
        for of in gone {
            let known = self.followed.remove(&of).unwrap_or_default();
            known.objects.into_keys().for_each(|key| self.gone(key));
            self.wrong(Wrong::Followed(of), None);
        }
        for key in wanted {
            self.followed.entry(Followed::One(key.clone())).or_default();
        }
        self.listed();
    }

    fn set(&mut self, of: &Followed, item: Item) {
        let Some(known) = self.followed.get_mut(of) else {
            return;
        };
        let Some(key) = item.key else {
            if let (Followed::Kind(kind), Err(error)) = (of, item.object) {
                self.wrong(Wrong::Nameless(*kind), Some(error));
            }
            return;
        };
        if let Some((_, listed)) = &mut known.listing {
            listed.insert(key.clone());
        }
        let known = known.objects.insert(key.clone(), item.version.clone());
        let was_known = known.is_some();
        if known.is_some_and(|known| known == item.version && !known.is_empty()) {
            return;
        }
        match item.object {
            Ok(object) => {
                self.wrong(Wrong::Object(key), None);
                self.refers(&object);
                self.events.push(Event::Apply(object, Origin::default()));
            }
            Err(error) => {
                if let Some(instead) = item.instead.filter(|_| !was_known) {
                    self.events.push(Event::Apply(instead, Origin::default()));
                }
                self.wrong(Wrong::Object(key), Some(error));
            }
        }
    }

    fn gone(&mut self, key: Key) {
        self.wrong(Wrong::Object(key.clone()), None);
        self.references.remove(&key);
        self.events.push(Event::Delete(key));
    }

    fn refers(&mut self, object: &Object) {
        let key = object.key();
        let policy = match object {
            Object::BackendTLSPolicy(policy) => policy,
            Object::Gateway(gateway) => {
                let named = parameters::named(gateway).ok().flatten();
                let map = |name: &str| Key {
                    kind: Kind::ConfigMap,
                    namespace: key.namespace.clone(),
                    name: name.into(),
                };
                let wanted = named.into_iter().map(map).collect();
                self.references.insert(key, wanted);
                return;
            }
            _ => return,
        };
        let references = policy.spec.validation.ca_certificate_refs.iter();
        let wanted = references.filter_map(|reference| {
            let kind = match (reference.group.as_str(), reference.kind.as_str()) {
                ("" | "core", "ConfigMap") => Kind::ConfigMap,
                ("" | "core", "Secret") => Kind::Secret,
                _ => return None,
            };
            Some(Key {
                kind,
                namespace: key.namespace.clone(),
                name: reference.name.as_str().into(),
            })
        });
        let wanted = wanted.collect();
        self.references.insert(key, wanted);
    }

    fn wrong(&mut self, what: Wrong, error: Option<String>) {
        let before = match &error {
            Some(error) => self.problems.insert(what, error.clone()),
            None => self.problems.remove(&what),
        };
        self.wrong_changed |= before != error;
    }

    fn listed(&mut self) {
        // What is referred to is known by now, or `follow` has yet to be told.
        self.ready = self.ready
            || (self.followed.iter().all(|(of, known)| known.told(of))
                && self
                    .wanted()
                    .into_iter()
                    .all(|key| self.followed.contains_key(&Followed::One(key))));
    }
}

impl Known {
    /// Whether enough is known for a first batch. What a single object holds is not waited for when the
    /// API server does not tell.
    fn told(&self, of: &Followed) -> bool {
        self.listed.is_some() || (matches!(of, Followed::One(_)) && self.trouble.is_some())
    }
}

impl std::fmt::Display for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "{kind}"),
            Self::One(key) => write!(f, "{key}"),
        }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Followed(of) => write!(f, "{of}"),
            Self::Object(key) => write!(f, "{key}"),
            Self::Nameless(kind) => write!(f, "{kind} (no name)"),
        }
    }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
