//! One delta xDS stream as a state machine: requests in, responses out, no IO.
//!
//! At most one response of a type waits for its ACK. Changes meanwhile gather on the shelf, so that
//! a slow proxy costs nothing and then gets the newest state. A policy is sent before what may refer
//! to it, and its removal after.
//!
//! A waypoint gets what concerns it: what begins to is new to it, what no longer does is gone. A node's proxy that
//! asks for addresses one by one gets the pods of its node unasked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_proto::xds::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, MORE_FOLLOWS};
use prost_types::Any;

use super::reading::Reading;
use super::shelf::{Resource, Shelf, Shelves};
use super::{ByType, ResourceType};

/// A response is closed when it holds this many bytes: with its last resource it stays below what
/// gRPC clients take by default (4 MiB).
const MAX_BYTES: usize = 3 << 20;
/// A response names at most this many removed resources.
const MAX_REMOVED: usize = 10_000;

/// One stream.
#[derive(Debug, Default)]
pub struct Session {
    waypoint: Option<NamespacedName>,
    node: Option<Arc<str>>,
    subscriptions: ByType<Option<Subscription>>,
    nonces: u64,
}

/// What a request told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A subscription, or an answer to a response that is not waited for any more.
    Nothing,
    /// A response was applied.
    Ack(ResourceType),
    /// A response, or part of it, was refused.
    Nack(ResourceType, Nack),
    /// A type that is not served here.
    UnknownType(String),
}

/// A refusal that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// In the proxy's words.
    pub message: String,
    /// Those the message names, else all of the response.
    pub resources: BTreeSet<Arc<str>>,
}

/// A proxy is too far behind to be told what is gone; it has to connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proxy is too far behind; it has to connect again and say what it holds")]
pub struct TooFarBehind;

/// How far a type is on this stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The first response of this type was answered.
    pub answered: bool,
    /// Up to this generation everything was sent and answered.
    pub settled: u64,
    /// The newest generation that was sent.
    pub pushed: u64,
    /// The newest generation that was sent and answered with an ACK.
    pub acked: u64,
    /// Refusals that stand.
    pub nacks: Vec<Nack>,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    /// What was asked for, and what was sent for that.
    names: HashSet<Arc<str>>,
    /// Whose pods are sent unasked.
    node: Option<Arc<str>>,
    /// Names to answer even when nothing changed.
    asked: BTreeSet<Arc<str>>,
    /// What the client brought from an earlier stream and was not compared yet.
    held: HashMap<String, String>,
    /// Of a waypoint.
    reading: Option<Reading>,
    started: bool,
    /// The last response said that it was not all of what is there, and the proxy waits for one that does not: removals
    /// are not counted.
    more_follows: bool,
    present: u64,
    removed: u64,
    outstanding: Option<Outstanding>,
    progress: Progress,
}

#[derive(Debug)]
struct Outstanding {
    nonce: String,
    names: BTreeSet<Arc<str>>,
    pushed: u64,
    /// The state this response completes, when it does.
    completes: Option<u64>,
}

impl Session {
    /// The proxy is an instance of this waypoint (the key of its Service); said before its first request is
    /// taken. One that is of none gets everything.
    pub fn is_of(&mut self, waypoint: NamespacedName) {
        self.waypoint = Some(waypoint);
    }

    /// The proxy serves the pods of this node; said before its first request is taken.
    pub fn is_on(&mut self, node: &str) {
        self.node = Some(node.into());
    }

    /// Whether the proxy is an instance of a waypoint, or serves the pods of a node.
    #[cfg(test)]
    pub(super) fn is_a_part(&self) -> bool {
        self.waypoint.is_some() || self.node.is_some()
    }

    /// Takes a request.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Told {
        let Some(of) = ResourceType::from_url(&request.type_url) else {
            return Told::UnknownType(request.type_url);
        };
        let slot = &mut self.subscriptions[of];
        let first = slot.is_none();
        let subscription = slot.get_or_insert_default();
        let told = if first {
            subscription.held = request.initial_resource_versions;
            subscription.wildcard = request.resource_names_subscribe.is_empty();
            subscription.node = self.node.clone();
            if of == ResourceType::Waypoint {
                subscription.reading = self.waypoint.clone().map(Reading::of);
            }
            Told::Nothing
        } else {
            subscription.answer(of, &request.response_nonce, request.error_detail)
        };
        subscription.subscribe(
            &request.resource_names_subscribe,
            &request.resource_names_unsubscribe,
        );
        told
    }

    /// The next response that may be sent now.
    ///
    /// # Errors
    /// [`TooFarBehind`]: the stream has to end.
    pub fn poll(
        &mut self,
        shelves: &Shelves,
    ) -> Result<Option<DeltaDiscoveryResponse>, TooFarBehind> {
        for of in ResourceType::ALL {
            let gates = self.gates(of, shelves);
            let nonce = self.nonces + 1;
            if let Some(subscription) = &mut self.subscriptions[of]
                && let Some(mut response) =
                    subscription.next(of, shelves, &gates, &nonce.to_string())?
            {
                self.nonces = nonce;
                response.system_version_info = match subscription.more_follows {
                    true => MORE_FOLLOWS.to_owned(),
                    false => shelves.generation().to_string(),
                };
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// How far a subscribed type is.
    #[must_use]
    pub fn progress(&self, of: ResourceType) -> Option<&Progress> {
        self.subscriptions[of].as_ref().map(|s| &s.progress)
    }

    fn gates(&self, of: ResourceType, shelves: &Shelves) -> Gates {
        let sent = |of: ResourceType| {
            self.subscriptions[of].as_ref().is_none_or(|s| {
                s.started && shelves.of(of).present_after(s.present).next().is_none()
            })
        };
        match of {
            // A policy is gone for the proxy only after the workloads that referred to it changed.
            ResourceType::Authorization | ResourceType::Waypoint => Gates {
                present: true,
                removed_until: self.subscriptions[ResourceType::Address]
                    .as_ref()
                    .map_or(u64::MAX, |s| {
                        s.sent_until(shelves.of(ResourceType::Address))
                    }),
            },
            // What is served comes after the policies that may hold for it.
            ResourceType::Address => Gates {
                present: sent(ResourceType::Authorization) && sent(ResourceType::Waypoint),
                removed_until: u64::MAX,
            },
        }
    }
}

struct Gates {
    present: bool,
    removed_until: u64,
}

impl Subscription {
    fn subscribe(&mut self, subscribe: &[String], unsubscribe: &[String]) {
        for name in subscribe {
            if name == "*" {
                self.wildcard = true;
            } else {
                let name: Arc<str> = name.as_str().into();
                self.names.insert(name.clone());
                self.asked.insert(name);
            }
        }
        for name in unsubscribe {
            if name == "*" {
                self.wildcard = false;
            } else {
                self.names.remove(name.as_str());
                self.asked.remove(name.as_str());
            }
        }
    }

    fn answer(&mut self, of: ResourceType, nonce: &str, error: Option<xds::Status>) -> Told {
        let Some(outstanding) = self.outstanding.take_if(|o| o.nonce == nonce) else {
            return Told::Nothing;
        };
        self.progress.answered = true;
        if let Some(generation) = outstanding.completes {
            self.progress.settled = self.progress.settled.max(generation);
        }
        // What was sent anew is judged anew.
        for nack in &mut self.progress.nacks {
            nack.resources
                .retain(|name| !outstanding.names.contains(name));
        }
        self.progress
            .nacks
            .retain(|nack| !nack.resources.is_empty());
        let Some(error) = error else {
            self.progress.acked = outstanding.pushed;
            return Told::Ack(of);
        };
        let named: BTreeSet<Arc<str>> = outstanding
            .names
            .iter()
            .filter(|name| error.message.contains(&***name))
            .cloned()
            .collect();
        let nack = Nack {
            message: error.message,
            resources: if named.is_empty() {
                outstanding.names
            } else {
                named
            },
        };
        self.progress.nacks.push(nack.clone());
        Told::Nack(of, nack)
    }

    /// Whether the client gets it. What it gets by another name, or unasked, is followed by its own from then on: so
    /// its removal is told.
    fn wants(&mut self, resource: &Resource) -> bool {
        if self.wildcard {
            return true;
        }
        let asked = |name| self.names.contains(name);
        let wanted = asked(&resource.name)
            || resource.aliases.iter().any(asked)
            || self.node.is_some() && self.node == resource.node;
        if wanted {
            self.names.insert(resource.name.clone());
        }
        wanted
    }

    /// Everything of this type up to this generation is on its way.
    fn sent_until(&self, shelf: &Shelf) -> u64 {
        if !self.started {
            return 0;
        }
        match shelf.present_after(self.present).next() {
            Some((next, _)) => next - 1,
            None => u64::MAX,
        }
    }

    fn next(
        &mut self,
        of: ResourceType,
        shelves: &Shelves,
        gates: &Gates,
        nonce: &str,
    ) -> Result<Option<DeltaDiscoveryResponse>, TooFarBehind> {
        if self.outstanding.is_some() || !gates.present {
            return Ok(None);
        }
        let shelf = shelves.of(of);
        let first = !self.started;
        if first {
            self.started = true;
            // What a client without state never had need not be taken from it.
            self.removed = shelves.generation();
        } else if self.removed < shelf.forgotten() {
            return Err(TooFarBehind);
        }
        let mut batch = Batch::default();
        self.answer_asked(shelf, &mut batch);
        let mut complete = self.add_present(shelf, &mut batch);
        complete &= self.add_removed(shelf, gates.removed_until, &mut batch);
        complete &= self.add_lost(shelf, &mut batch);
        let was_waited_for = first || self.more_follows;
        self.more_follows = !self.asked.is_empty()
            || !self.held.is_empty()
            || shelf.present_after(self.present).next().is_some();
        if batch.is_empty() && !was_waited_for {
            if complete {
                self.present = self.present.max(shelves.generation());
                self.removed = self.present;
                self.progress.settled = shelves.generation();
            }
            return Ok(None);
        }
        let pushed = self.present.max(self.removed);
        self.progress.pushed = pushed;
        self.outstanding = Some(Outstanding {
            nonce: nonce.to_owned(),
            names: batch.names(),
            pushed,
            completes: complete.then(|| shelves.generation()),
        });
        Ok(Some(batch.response(of, nonce)))
    }

    fn answer_asked(&mut self, shelf: &Shelf, batch: &mut Batch) {
        while !batch.is_full()
            && let Some(name) = self.asked.pop_first()
        {
            match shelf.find(&name) {
                Some(resource) => {
                    self.names.insert(resource.name.clone());
                    batch.add(resource);
                }
                None => batch.removed.push(name),
            }
        }
    }

    fn add_present(&mut self, shelf: &Shelf, batch: &mut Batch) -> bool {
        let mut present = self.present;
        for (at, resource) in shelf.present_after(self.present) {
            if batch.is_full() {
                self.present = present;
                return false;
            }
            present = at;
            let held = self.held.remove(&*resource.name);
            let new = self.wants(resource)
                && match &mut self.reading {
                    Some(reading) => reading.look(at, resource, held.as_deref()),
                    None => held.as_deref() != Some(&*resource.version),
                };
            if new {
                batch.add(resource);
            }
        }
        self.present = present;
        self.asked.is_empty()
    }

    fn add_removed(&mut self, shelf: &Shelf, until: u64, batch: &mut Batch) -> bool {
        let mut removed = self.removed;
        let mut complete = true;
        for (at, name) in shelf.removed_after(self.removed) {
            if at > until || batch.removed.len() >= MAX_REMOVED {
                complete = false;
                break;
            }
            removed = at;
            let told = self.reading.as_mut().is_none_or(|it| it.forget(name));
            if told && (self.wildcard || self.names.contains(name)) {
                batch.removed.push(name.clone());
            }
        }
        self.removed = removed;
        if let Some(reading) = &mut self.reading {
            while batch.removed.len() < MAX_REMOVED
                && let Some(name) = reading.lost_until(until)
            {
                batch.removed.push(name);
            }
            complete &= !reading.has_lost();
        }
        complete
    }

    /// What the client holds and is not there: known once all that is there was compared.
    fn add_lost(&mut self, shelf: &Shelf, batch: &mut Batch) -> bool {
        if shelf.present_after(self.present).next().is_some() {
            return false;
        }
        while batch.removed.len() < MAX_REMOVED {
            let Some(name) = self.held.keys().next().cloned() else {
                return true;
            };
            self.held.remove(&name);
            if shelf.find(&name).is_none() {
                batch.removed.push(name.into());
            }
        }
        self.held.is_empty()
    }
}

#[derive(Default)]
struct Batch {
    bytes: usize,
    resources: Vec<Resource>,
    seen: HashSet<Arc<str>>,
    removed: Vec<Arc<str>>,
}

impl Batch {
    fn add(&mut self, resource: &Resource) {
        if self.seen.insert(resource.name.clone()) {
            self.bytes += resource.body.len() + resource.name.len() + 64;
            self.resources.push(resource.clone());
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    fn names(&self) -> BTreeSet<Arc<str>> {
        let present = self.resources.iter().map(|r| r.name.clone());
        present.chain(self.removed.iter().cloned()).collect()
    }

    fn response(self, of: ResourceType, nonce: &str) -> DeltaDiscoveryResponse {
        let resources = self.resources.into_iter().map(|resource| xds::Resource {
            name: resource.name.to_string(),
            version: resource.version.to_string(),
            aliases: resource.aliases.iter().map(ToString::to_string).collect(),
            resource: Some(Any {
                type_url: of.url().to_owned(),
                value: resource.body.to_vec(),
            }),
            ..xds::Resource::default()
        });
        DeltaDiscoveryResponse {
            resources: resources.collect(),
            removed_resources: self.removed.iter().map(ToString::to_string).collect(),
            type_url: of.url().to_owned(),
            nonce: nonce.to_owned(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
