//! The rules of a service, laid out so that a lookup does not grow with their number: exact paths and
//! prefixes by hash, a path's prefixes from the longest to the root. Persistent: a copy costs nothing, a
//! change costs what it touches.

use std::sync::Arc;

use super::RequestHead;
use super::matcher::Candidate;
use crate::model::route::{PathMatch, Protocol};
use crate::model::{RouteKey, RouteRule};

type Map<K, V> = rpds::HashTrieMapSync<K, V, hashbrown::DefaultHashBuilder>;

/// The HTTP and gRPC rules of one service, for all of its ports and clients.
#[derive(Debug, Clone, Default)]
pub struct ServiceRoutes {
    producers: Kinds,
    /// By the clients' namespace.
    consumers: Map<Arc<str>, Kinds>,
}

/// Rules by the kind of their route.
#[derive(Debug, Clone, Default)]
struct Kinds {
    grpc: Ports,
    http: Ports,
}

/// Rules by where they are attached.
#[derive(Debug, Clone, Default)]
struct Ports {
    /// Those that name no port.
    all: Table,
    one: Map<u16, Table>,
}

#[derive(Debug, Clone, Default)]
struct Table {
    exact: Map<Arc<str>, Bucket>,
    /// Without their trailing slash: the root is the empty text.
    prefix: Map<Arc<str>, Bucket>,
    regex: Bucket,
    size: usize,
}

/// Candidates, the one that goes first at the start.
type Bucket = Arc<Vec<Candidate>>;

/// The rules for one port as one client sees them: those of the port, and those of every port.
#[derive(Debug, Clone, Copy)]
pub struct Routes<'a>([Option<&'a Table>; 2]);

/// How the path matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matched {
    /// These bytes of the path are the prefix, without a trailing slash.
    Prefix(usize),
    /// The whole of it.
    Whole,
}

impl ServiceRoutes {
    /// Adds a rule that is attached to the service at these ports (`None`: all).
    pub(crate) fn insert(&mut self, rule: &Arc<RouteRule>, port: Option<u16>) {
        self.change(rule, port, |table| {
            for candidate in Candidate::all(rule) {
                table.insert(candidate);
            }
        });
    }

    /// Takes away a rule that was added.
    pub(crate) fn remove(&mut self, rule: &RouteRule, port: Option<u16>) {
        self.change(rule, port, |table| table.remove(rule));
    }

    fn change(&mut self, rule: &RouteRule, port: Option<u16>, change: impl FnOnce(&mut Table)) {
        let protocol = rule.key.protocol;
        let Some(consumer) = &rule.consumer else {
            return self.producers.change(protocol, port, change);
        };
        let mut kinds = self.consumers.get(consumer).cloned().unwrap_or_default();
        kinds.change(protocol, port, change);
        if kinds.is_empty() {
            self.consumers.remove_mut(consumer);
        } else {
            self.consumers.insert_mut(consumer.clone(), kinds);
        }
    }

    /// No rule is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.consumers.is_empty()
    }

    /// The rules for a port, as a client of this namespace sees them: consumer routes of its own
    /// namespace instead of the producer's (GEP-1294), GRPCRoutes instead of HTTPRoutes (GEP-1426).
    /// `None` when there is none.
    #[must_use]
    pub fn at(&self, port: u16, client_namespace: &str) -> Option<Routes<'_>> {
        let own = match self.consumers.is_empty() {
            true => None,
            false => self.consumers.get(client_namespace),
        };
        let of_own = own.and_then(|kinds| kinds.at(port));
        of_own.or_else(|| self.producers.at(port))
    }
}

impl Kinds {
    fn change(&mut self, protocol: Protocol, port: Option<u16>, change: impl FnOnce(&mut Table)) {
        let ports = match protocol {
            Protocol::Grpc => &mut self.grpc,
            _ => &mut self.http,
        };
        let Some(port) = port else {
            return change(&mut ports.all);
        };
        let mut table = ports.one.get(&port).cloned().unwrap_or_default();
        change(&mut table);
        if table.size == 0 {
            ports.one.remove_mut(&port);
        } else {
            ports.one.insert_mut(port, table);
        }
    }

    fn is_empty(&self) -> bool {
        let empty = |ports: &Ports| ports.all.size == 0 && ports.one.is_empty();
        empty(&self.grpc) && empty(&self.http)
    }

    fn at(&self, port: u16) -> Option<Routes<'_>> {
        self.grpc.at(port).or_else(|| self.http.at(port))
    }
}

impl Ports {
    fn at(&self, port: u16) -> Option<Routes<'_>> {
        let one = match self.one.is_empty() {
            true => None,
            false => self.one.get(&port),
        };
        let all = (self.all.size > 0).then_some(&self.all);
        (one.is_some() || all.is_some()).then_some(Routes([one, all]))
    }
}

impl Table {
    fn insert(&mut self, candidate: Candidate) {
        self.size += 1;
        self.change(&candidate.condition().path.clone(), |bucket| {
            let at = bucket.partition_point(|known| known.rank() < candidate.rank());
            bucket.insert(at, candidate);
        });
    }

    fn remove(&mut self, rule: &RouteRule) {
        let paths: Vec<Option<PathMatch>> = match rule.matches.len() {
            0 => vec![None],
            _ => rule.matches.iter().map(|it| it.path.clone()).collect(),
        };
        for path in paths {
            let mut removed = 0;
            self.change(&path, |bucket| {
                let before = bucket.len();
                bucket.retain(|known| !is(known, &rule.key));
                removed = before - bucket.len();
            });
            self.size -= removed;
        }
    }

    fn change(&mut self, path: &Option<PathMatch>, change: impl FnOnce(&mut Vec<Candidate>)) {
        let (map, key): (_, Arc<str>) = match path {
            Some(PathMatch::Regex(_)) => return change(Arc::make_mut(&mut self.regex)),
            Some(PathMatch::Exact(path)) => (&mut self.exact, path.clone()),
            Some(PathMatch::Prefix(prefix)) => {
                (&mut self.prefix, prefix.trim_end_matches('/').into())
            }
            None => (&mut self.prefix, "".into()),
        };
        let mut bucket = map.get(&key).cloned().unwrap_or_default();
        change(Arc::make_mut(&mut bucket));
        if bucket.is_empty() {
            map.remove_mut(&key);
        } else {
            map.insert_mut(key, bucket);
        }
    }
}

fn is(candidate: &Candidate, key: &RouteKey) -> bool {
    candidate.rule.key == *key
}

impl<'a> Routes<'a> {
    /// The rule that goes first among those that match.
    pub(super) fn find(&self, head: &RequestHead<'_>) -> Option<(&'a Arc<RouteRule>, Matched)> {
        let path = head.path.path();
        let whole = |rule| (rule, Matched::Whole);
        if let Some(rule) = self.first(head, |table| table.exact.get(path)) {
            return Some(whole(rule));
        }
        let mut prefix = path.strip_suffix('/').unwrap_or(path);
        loop {
            if let Some(rule) = self.first(head, |table| table.prefix.get(prefix)) {
                return Some((rule, Matched::Prefix(prefix.len())));
            }
            match prefix.rfind('/') {
                Some(at) => prefix = &prefix[..at],
                None => break,
            }
        }
        self.first(head, |table| Some(&table.regex)).map(whole)
    }

    /// The first fitting candidate of the same bucket in both tables.
    fn first(
        &self,
        head: &RequestHead<'_>,
        bucket: impl Fn(&'a Table) -> Option<&'a Bucket>,
    ) -> Option<&'a Arc<RouteRule>> {
        let fitting = |table: Option<&'a Table>| {
            let bucket = bucket(table?)?;
            bucket.iter().find(|candidate| candidate.fits(head))
        };
        let [of_port, of_all] = self.0.map(fitting);
        let first = match (of_port, of_all) {
            (Some(a), Some(b)) if b.rank() < a.rank() => Some(b),
            (Some(a), _) => Some(a),
            (None, b) => b,
        };
        first.map(|candidate| &candidate.rule)
    }
}
