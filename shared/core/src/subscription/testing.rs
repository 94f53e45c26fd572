//! Any sequence of pushes, refusals and lost streams leaves in force what there is, and the subscription says so. Property
//! tests and the fuzzer choose the sequences.

use std::collections::{BTreeMap, VecDeque};

use super::{MAX_ERROR, Pushed, Subscription};

/// Octets of a step.
pub const STEP: usize = 3;
/// Steps that are taken of a history.
const LONGEST: usize = 128;
/// Resources of each type that there may be; the last one's name is longer than a refusal's text.
const NAMES: u8 = 6;

/// Of the first, what cannot be read leaves what was there before; of the second, it denies until it is gone or can be read.
/// Nobody subscribes to the third.
const TYPES: [&str; 3] = [
    "type.example/Address",
    "type.example/Policy",
    "type.example/Other",
];
const POLICY: usize = 1;
const SUBSCRIBED: usize = 2;

/// Lives through a history, [`STEP`] octets a step.
///
/// # Panics
/// When the subscription holds, asks or answers something else than the model, or what is in force at last is not what
/// there is.
pub fn live(history: &[u8]) {
    let mut world = World::new();
    let (steps, _) = history.as_chunks::<STEP>();
    for step in steps.iter().take(LONGEST) {
        world.step(*step);
        world.proxy.check();
    }
    // Who does as the protocol says needs no new stream for that; with one, nobody has to.
    if !world.is_odd {
        world.settle();
    }
    world.reconnect();
    world.settle();
}

/// A control plane and a proxy.
struct World {
    plane: Plane,
    stream: Stream,
    proxy: Proxy,
    /// The control plane has sent what it does not have.
    is_odd: bool,
}

#[derive(Default)]
struct Plane {
    /// Version of what there is, and whether the proxy can read it.
    there: [BTreeMap<String, (String, bool)>; SUBSCRIBED],
    versions: u64,
}

#[derive(Default)]
struct Stream {
    /// What the proxy has, as far as the control plane knows.
    told: [BTreeMap<String, String>; SUBSCRIBED],
    under_way: VecDeque<Push>,
    nonces: u64,
}

#[derive(Default)]
struct Push {
    kind: usize,
    nonce: String,
    /// Name, version, and whether it can be read.
    resources: Vec<(String, String, bool)>,
    removed: Vec<String>,
    /// The proxy does not let go of what is removed.
    is_kept: bool,
    complete: bool,
}

struct Proxy {
    subscription: Subscription,
    /// Versions; what denies has none.
    in_force: [BTreeMap<String, Option<String>>; SUBSCRIBED],
    /// What the subscription has to hold.
    held: [BTreeMap<String, String>; SUBSCRIBED],
    answered: [bool; SUBSCRIBED],
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            plane: Plane::default(),
            stream: Stream::default(),
            proxy: Proxy {
                subscription: Subscription::new(TYPES[..SUBSCRIBED].iter().copied()),
                in_force: Default::default(),
                held: Default::default(),
                answered: [false; SUBSCRIBED],
            },
            is_odd: false,
        };
        world.reconnect();
        world
    }

    fn step(&mut self, [what, name, flags]: [u8; STEP]) {
        let kind = usize::from(flags & 1);
        match what % 8 {
            0 | 1 => {
                let version = self.plane.next_version();
                let resource = (version, flags & 2 == 0);
                self.plane.there[kind].insert(resource_name(name), resource);
            }
            2 => drop(self.plane.there[kind].remove(&resource_name(name))),
            3 => {
                let pieces = self.plane.changed(kind, &self.stream.told[kind]);
                self.stream.send(pieces, usize::from(flags >> 1) + 1);
            }
            4 => {
                if let Some(push) = self.stream.under_way.pop_front() {
                    self.proxy.take(&push);
                }
            }
            5 => self.deliver(),
            6 => self.reconnect(),
            _ => {
                self.is_odd = true;
                let push = self.plane.odd(name, flags);
                self.proxy.take(&push);
            }
        }
    }

    fn deliver(&mut self) {
        for push in self.stream.under_way.drain(..) {
            self.proxy.take(&push);
        }
    }

    /// The stream breaks, with all that is under way on it.
    fn reconnect(&mut self) {
        self.stream = Stream::default();
        let requests = self.proxy.subscription.opened();
        assert_eq!(requests.len(), SUBSCRIBED);
        for (kind, request) in requests.into_iter().enumerate() {
            assert_eq!(&*request.type_url, TYPES[kind]);
            assert_eq!((&*request.nonce, request.error), ("", None));
            let listed = request.initial_versions;
            assert!(listed.is_sorted_by(|a, b| a.0 < b.0), "{listed:?}");
            self.stream.told[kind] = listed.into_iter().collect();
        }
        assert_eq!(self.stream.told, self.proxy.held);
    }

    /// Everything is said and taken: what is in force is what there is.
    fn settle(&mut self) {
        self.deliver();
        for kind in 0..SUBSCRIBED {
            let pieces = self.plane.changed(kind, &self.stream.told[kind]);
            self.stream.send(pieces, usize::MAX);
        }
        self.deliver();
        self.proxy.check();
        assert!(self.proxy.subscription.synced());
        for (kind, there) in self.plane.there.iter().enumerate() {
            let in_force = &self.proxy.in_force[kind];
            for (name, (version, readable)) in there {
                let found = in_force.get(name);
                match (readable, kind) {
                    (true, _) => assert_eq!(found, Some(&Some(version.clone())), "{name}"),
                    (false, POLICY) => assert_eq!(found, Some(&None), "{name}"),
                    (false, _) => assert_ne!(found, Some(&Some(version.clone())), "{name}"),
                }
            }
            let gone = in_force.keys().find(|name| !there.contains_key(*name));
            assert_eq!(gone, None, "it is gone, and in force");
        }
    }
}

fn resource_name(number: u8) -> String {
    match number % NAMES {
        5 => "long".repeat(MAX_ERROR / 3),
        number => format!("ns/{number}"),
    }
}

impl Plane {
    fn next_version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    /// What is new, different or gone to who was told this.
    fn changed(&self, kind: usize, told: &BTreeMap<String, String>) -> Push {
        let there = &self.there[kind];
        let new = there
            .iter()
            .filter(|(name, (version, _))| told.get(*name) != Some(version));
        let gone = told.keys().filter(|name| !there.contains_key(*name));
        Push {
            kind,
            resources: new
                .map(|(name, (version, readable))| (name.clone(), version.clone(), *readable))
                .collect(),
            removed: gone.cloned().collect(),
            complete: true,
            ..Push::default()
        }
    }

    /// What no control plane should send.
    fn odd(&mut self, name: u8, flags: u8) -> Push {
        let mut push = Push {
            kind: usize::from(flags & 3) % TYPES.len(),
            nonce: "odd".to_owned(),
            is_kept: name & 0x40 != 0,
            complete: name & 0x80 != 0,
            ..Push::default()
        };
        let name = resource_name(name);
        let is = |bit: u8| flags & bit != 0;
        if is(4) {
            push.removed.push(name.clone());
        }
        if is(8) {
            push.removed.push(String::new());
        }
        if is(16) {
            push.resources
                .push((String::new(), self.next_version(), true));
        }
        if is(32) {
            push.resources
                .push((name.clone(), self.next_version(), is(64)));
        }
        if is(128) {
            push.resources.push((name, self.next_version(), !is(64)));
        }
        push
    }
}

impl Stream {
    /// Sends a push in pieces of so many resources.
    fn send(&mut self, push: Push, piece: usize) {
        let told = &mut self.told[push.kind];
        for name in &push.removed {
            told.remove(name);
        }
        for (name, version, _) in &push.resources {
            told.insert(name.clone(), version.clone());
        }
        let mut rest = push.resources.into_iter().peekable();
        let mut removed = push.removed;
        loop {
            self.nonces += 1;
            let resources: Vec<_> = rest.by_ref().take(piece).collect();
            let complete = rest.peek().is_none();
            self.under_way.push_back(Push {
                resources,
                removed: std::mem::take(&mut removed),
                nonce: self.nonces.to_string(),
                complete,
                ..push
            });
            if complete {
                break;
            }
        }
    }
}

impl Proxy {
    /// Applies a push as the proxies do, and answers it.
    fn take(&mut self, push: &Push) {
        let subscribed = push.kind < SUBSCRIBED;
        let rejected = if subscribed {
            self.apply(push)
        } else {
            Vec::new()
        };
        let resources = push.resources.iter().cloned();
        let resources: Vec<_> = resources
            .map(|(name, version, _)| (name, version))
            .collect();
        let answer = self.subscription.pushed(&Pushed {
            type_url: TYPES[push.kind],
            nonce: &push.nonce,
            resources: &resources,
            removed: &push.removed,
            rejected: &rejected,
            complete: push.complete,
        });
        assert_eq!(&*answer.type_url, TYPES[push.kind]);
        assert_eq!(answer.nonce, push.nonce);
        assert_eq!(answer.initial_versions, []);
        match &answer.error {
            Some(error) if subscribed => {
                let count = format!("{} of ", rejected.len());
                assert!(error.starts_with(&count), "{error}");
                assert!(error.len() < MAX_ERROR + 32, "{}", error.len());
            }
            error => assert_eq!(error.is_some(), !subscribed),
        }
        assert!(rejected.is_empty() || answer.error.is_some());
        if subscribed {
            self.record(push, &rejected);
        }
    }

    fn apply(&mut self, push: &Push) -> Vec<(String, String)> {
        let in_force = &mut self.in_force[push.kind];
        let mut rejected = Vec::new();
        for name in &push.removed {
            if push.is_kept {
                rejected.push((name.clone(), "it is in use".to_owned()));
            } else {
                in_force.remove(name);
            }
        }
        for (name, version, readable) in &push.resources {
            if name.is_empty() {
                rejected.push((name.clone(), "it has no name".to_owned()));
            } else if *readable {
                in_force.insert(name.clone(), Some(version.clone()));
            } else {
                rejected.push((name.clone(), "unlesbar: ä".repeat(100)));
                if push.kind == POLICY {
                    in_force.insert(name.clone(), None);
                }
            }
        }
        rejected
    }

    /// What is held of each name that a push speaks of.
    fn record(&mut self, push: &Push, rejected: &[(String, String)]) {
        self.answered[push.kind] |= push.complete;
        let named = push.resources.iter().map(|(name, ..)| name);
        for name in named.chain(&push.removed).filter(|name| !name.is_empty()) {
            let last = push.resources.iter().rfind(|(it, ..)| it == name);
            let is_rejected = rejected.iter().any(|(it, _)| it == name);
            let held = &mut self.held[push.kind];
            match last {
                _ if is_rejected => held.insert(name.clone(), String::new()),
                Some((_, version, _)) => held.insert(name.clone(), version.clone()),
                None => held.remove(name),
            };
        }
    }

    /// Whatever is in force is held, or nobody would ever say that it is gone; a version that is held is in force.
    fn check(&self) {
        let synced = self.answered.iter().all(|answered| *answered);
        assert_eq!(self.subscription.synced(), synced);
        for (held, in_force) in self.held.iter().zip(&self.in_force) {
            for name in in_force.keys() {
                assert!(held.contains_key(name), "{name} is in force, and not held");
            }
            for (name, version) in held.iter().filter(|(_, version)| !version.is_empty()) {
                assert_eq!(in_force.get(name), Some(&Some(version.clone())), "{name}");
            }
        }
    }
}
