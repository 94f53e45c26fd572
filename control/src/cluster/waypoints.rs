//! Keeps what runs waypoints in the cluster, while this replica holds the Lease.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ambit_core::backoff::Backoff;
use rand::Rng;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::deployed::{Deployed, Found, Id, MANAGED_BY, RESOURCES, Step, applied, is_owned_by};
use super::follow::{Hint, News, follow};
use super::lease::{Held, holds};
use super::pace::{PACE, backoff, sleep_until};
use super::{Cluster, FIELD_MANAGER, Failure};
use crate::engine::State;
use crate::source::parse::Wire;
use crate::translate::gateway::patches;
use crate::waypoints::{Settings, objects};

/// Follows, and writes while the Lease is held, until the process ends.
pub async fn run(cluster: Cluster, state: Arc<State>, settings: Settings, mut held: Held) {
    let (sender, news) = mpsc::channel(64);
    let hints = watch::channel(Hint::default()).0;
    for (resource, collection) in RESOURCES.into_iter().enumerate() {
        let ours = collection.labelled(&format!("{MANAGED_BY}={FIELD_MANAGER}"));
        let told = (resource, sender.clone());
        let hints = hints.subscribe();
        tokio::spawn(follow(cluster.clone(), ours, read, hints, told));
    }
    let mut writer = Writer {
        cluster,
        state,
        settings,
        news,
        deployed: Deployed::default(),
        listing: BTreeMap::new(),
        listed: BTreeSet::new(),
        failed: BTreeMap::new(),
    };
    writer.run(&mut held).await;
}

type Told = (usize, News<Option<(String, String, Value)>>);

struct Writer {
    cluster: Cluster,
    state: Arc<State>,
    settings: Settings,
    news: mpsc::Receiver<Told>,
    deployed: Deployed,
    listing: BTreeMap<usize, HashSet<Id>>,
    listed: BTreeSet<usize>,
    failed: BTreeMap<Id, (Instant, Backoff)>,
}

impl Writer {
    async fn run(&mut self, held: &mut Held) {
        let mut batches = self.state.batches();
        let mut loaded = self.state.loaded();
        loop {
            batches.borrow_and_update();
            let ready =
                holds(held) && self.listed.len() == RESOURCES.len() && *loaded.borrow_and_update();
            let mut wake = None;
            if ready {
                let (wanted, held) = self.wanted();
                self.deployed.want(wanted, held);
                let steps = self.deployed.steps();
                self.failed.retain(|id, _| steps.contains_key(id));
                let now = Instant::now();
                let due = |id: &Id| self.failed.get(id).map_or(now, |(due, _)| *due);
                let next = steps.into_iter().map(|(id, step)| (due(&id), id, step));
                let next = next.min_by_key(|(due, id, _)| (*due, id.resource));
                match next {
                    Some((due, id, step)) if due <= now => {
                        self.step(&id, step).await;
                        tokio::time::sleep(PACE).await;
                        while let Ok((resource, news)) = self.news.try_recv() {
                            self.hear(resource, news);
                        }
                        continue;
                    }
                    Some((due, ..)) => wake = Some(due),
                    None => {}
                }
            }
            tokio::select! {
                told = self.news.recv() => match told {
                    Some((resource, news)) => self.hear(resource, news),
                    None => return,
                },
                changed = batches.changed() => if changed.is_err() { return },
                changed = held.changed() => if changed.is_err() { return },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn hear(&mut self, resource: usize, news: News<Option<(String, String, Value)>>) {
        let id = |(namespace, name): (String, String)| Id {
            resource,
            namespace,
            name,
        };
        match news {
            News::Begin(_) => {
                self.listing.insert(resource, HashSet::new());
            }
            News::Set(Some((namespace, name, object))) => {
                let id = id((namespace, name));
                if let Some(listing) = self.listing.get_mut(&resource) {
                    listing.insert(id.clone());
                }
                self.deployed.is(id, Some(Found::of(&object)));
            }
            News::Gone(Some((namespace, name, _))) => self.deployed.is(id((namespace, name)), None),
            News::Complete | News::Absent(_) => {
                let listed = self.listing.remove(&resource).unwrap_or_default();
                let known: Vec<Id> = self.deployed.of(resource).cloned().collect();
                for id in known.into_iter().filter(|id| !listed.contains(id)) {
                    self.deployed.is(id, None);
                }
                self.listed.insert(resource);
            }
            News::Set(None) | News::Gone(None) | News::Trouble(_) | News::Well => {}
        }
    }

    /// What is wanted, and the Gateways whose parameters cannot be read.
    fn wanted(&self) -> (BTreeMap<Id, Value>, BTreeSet<(String, String)>) {
        let index = self.state.index();
        let (mut wanted, mut held) = (BTreeMap::new(), BTreeSet::new());
        for (namespace, name, gateway) in index.objects().gateways.all() {
            let leaving = gateway.metadata.deletion_timestamp.is_some();
            if leaving || !index.is_our_class(&gateway.spec.gateway_class_name) {
                continue;
            }
            let Some(objects) = objects(gateway, index.mesh(), &self.settings) else {
                continue;
            };
            let maps = &index.objects().config_maps;
            let map = |name: &str| maps.find(namespace, name).map(|it| &**it);
            // Why they cannot be read is in the Gateway's status.
            match patches(namespace, gateway, map) {
                Ok(patches) => wanted.extend(applied(&objects, &patches)),
                Err(_) => drop(held.insert((namespace.to_string(), name.to_string()))),
            }
        }
        (wanted, held)
    }

    async fn step(&mut self, id: &Id, step: Step) {
        let result = match step {
            Step::Remove(uid) => self.cluster.delete(&id.path(), &uid).await.map(|()| {
                tracing::info!(object = %id, "removed what ran a Gateway");
                self.deployed.is(id.clone(), None);
            }),
            Step::Apply { object, first } => self.apply(id, &object, first).await,
        };
        match result {
            Ok(()) => {
                self.failed.remove(id);
            }
            Err(failure) => {
                tracing::warn!(object = %id, %failure, "what runs a waypoint was not written");
                let fresh = || (Instant::now(), backoff());
                let (due, backoff) = self.failed.entry(id.clone()).or_insert_with(fresh);
                *due = Instant::now() + backoff.next(rand::rng().random());
            }
        }
    }

    async fn apply(&mut self, id: &Id, object: &Value, first: bool) -> Result<(), Failure> {
        if first {
            self.may_take(id, object).await?;
        }
        let result = self.cluster.apply(&id.path(), object).await?;
        tracing::info!(object = %id, "applied what runs a Gateway");
        self.deployed.applied(id, object, &result);
        Ok(())
    }

    /// An object of this name that somebody else has made is left alone.
    async fn may_take(&self, id: &Id, object: &Value) -> Result<(), Failure> {
        let owner = &object["metadata"]["ownerReferences"][0]["uid"];
        match self.cluster.read::<Value>(&id.path()).await {
            Err(failure) if failure.status() == Some(404) => Ok(()),
            Err(failure) => Err(failure),
            Ok(there) if is_owned_by(&there, owner.as_str().unwrap_or_default()) => Ok(()),
            Ok(_) => Err(Failure::Refused {
                status: 409,
                reason: "AlreadyExists".to_owned(),
                message:
                    "it exists and is not the Gateway's; remove it, or name the Gateway otherwise"
                        .to_owned(),
                after: None,
            }),
        }
    }
}

/// Namespace, name and object.
fn read(wire: Wire<'_>) -> Option<(String, String, Value)> {
    let object: Value = wire.object().ok()?;
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    Some((text("namespace")?, text("name")?, object))
}

#[cfg(test)]
#[path = "waypoints_tests.rs"]
mod tests;
