//! Keeps the roots of the mesh, and the lists of revoked certificates, in ConfigMaps of every namespace, where waypoints
//! and node proxies mount them, while this replica holds the Lease. Where another control plane writes its own there, it is
//! not fought.
//!
//! The ConfigMaps belong to the control plane's own namespace: the garbage collector takes them away after it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ambit_core::backoff::Backoff;
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::collection::{Collection, path};
use super::follow::{Hint, News, follow};
use super::lease::{Held, holds};
use super::pace::{PACE, backoff, sleep_until};
use super::{Cluster, FIELD_MANAGER, Failure};
use crate::ca::{Authority, Signing, files};
use crate::engine::State;
use crate::source::parse::Wire;

/// A ConfigMap of every namespace, as Istio has it.
#[derive(Debug)]
pub struct Bundle {
    /// Its name.
    pub name: &'static str,
    /// Its only key.
    pub file: &'static str,
    /// What the key has. Where it is empty, no ConfigMap is made, and one that is there is emptied; where nothing is said, all stay as they are.
    text: fn(&Authority) -> Option<&str>,
    /// What follows where another control plane writes it.
    contested: &'static str,
}

/// What peers trust.
pub const ROOTS: Bundle = Bundle {
    name: "istio-ca-root-cert",
    file: files::ROOTS,
    text: |authority| Some(authority.roots()),
    contested: "Waypoints and node proxies there trust this control plane only if both have one authority: give them the same Secret cacerts",
};

/// What they do not believe any longer.
pub const REVOKED: Bundle = Bundle {
    name: "istio-ca-crl",
    file: files::CRL,
    text: Authority::revoked,
    contested: "Waypoints and node proxies there refuse whom the other's lists name, and nobody else: give both the same lists",
};

/// Follows, and writes while the Lease is held, until the process ends. `own` is the control plane's namespace.
pub async fn run(
    bundle: Bundle,
    cluster: Cluster,
    own: String,
    state: Arc<State>,
    signing: Signing,
    mut held: Held,
) {
    let (sender, news) = mpsc::channel(64);
    let hints = watch::channel(Hint::default()).0;
    let maps = Collection::all("", &["v1"], "configmaps").named(bundle.name);
    let read = move |wire: Wire<'_>| read(wire, bundle.file);
    let following = follow(cluster.clone(), maps, read, hints.subscribe(), ((), sender));
    tokio::spawn(following);
    let mut writer = Writer {
        bundle,
        cluster,
        own,
        state,
        signing,
        news,
        published: BTreeMap::new(),
        contests: BTreeMap::new(),
        told: false,
        silent: false,
        listing: HashSet::new(),
        listed: false,
        failed: BTreeMap::new(),
    };
    writer.run(&mut held).await;
}

/// A namespace, and what is published in it by whom.
type Told = Option<(String, Published)>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    text: String,
    /// Whether it goes with something.
    owned: bool,
    /// The field manager that wrote it last, when it was not this one.
    other: Option<String>,
}

/// What is to be in every namespace.
struct Wanted {
    text: String,
    /// A reference to the control plane's namespace, once that is known.
    owner: Option<Value>,
}

/// A namespace whose ConfigMap somebody else writes: after so many times it is left to them.
const CONTESTED: u32 = 2;

/// What was published in a namespace and did not stay.
#[derive(Debug, Default)]
struct Contest {
    /// What was published last.
    ours: String,
    /// How often it was replaced.
    lost: u32,
}

impl Contest {
    fn is_lost(&self) -> bool {
        self.lost >= CONTESTED
    }
}

struct Writer {
    bundle: Bundle,
    cluster: Cluster,
    own: String,
    state: Arc<State>,
    signing: Signing,
    news: mpsc::Receiver<((), News<Told>)>,
    published: BTreeMap<String, Published>,
    contests: BTreeMap<String, Contest>,
    /// Whether it was said that another control plane writes it.
    told: bool,
    /// Whether it was said that what is published stays, as nothing is said of it.
    silent: bool,
    listing: HashSet<String>,
    listed: bool,
    failed: BTreeMap<String, (Instant, Backoff)>,
}

impl Writer {
    async fn run(&mut self, held: &mut Held) {
        // The control plane's namespace is known from then on.
        if self
            .state
            .loaded()
            .wait_for(|loaded| *loaded)
            .await
            .is_err()
        {
            return;
        }
        let mut batches = self.state.batches();
        loop {
            batches.borrow_and_update();
            let text = (self.bundle.text)(&self.signing.borrow_and_update()).map(str::to_owned);
            let owner = self.owner();
            let wanted = text.map(|text| Wanted { text, owner });
            let mut wake = None;
            let writes = holds(held) && self.listed;
            if writes {
                self.tell_what_stays(wanted.is_none());
            }
            if let Some(wanted) = wanted.filter(|_| writes) {
                let wanting = self.wanting(&wanted);
                self.failed
                    .retain(|namespace, _| wanting.contains(namespace));
                let now = Instant::now();
                let due = |of: &String| self.failed.get(of).map_or(now, |(due, _)| *due);
                let next = wanting.into_iter().map(|of| (due(&of), of)).min();
                match next {
                    Some((due, namespace)) if due <= now => {
                        self.publish(namespace, &wanted).await;
                        tokio::time::sleep(PACE).await;
                        continue;
                    }
                    Some((due, _)) => wake = Some(due),
                    None => {}
                }
            }
            tokio::select! {
                told = self.news.recv() => match told {
                    Some(((), news)) => self.hear(news),
                    None => return,
                },
                changed = self.signing.changed() => if changed.is_err() { return },
                changed = batches.changed() => if changed.is_err() { return },
                changed = held.changed() => if changed.is_err() { return },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn hear(&mut self, news: News<Told>) {
        match news {
            News::Begin(_) => self.listing.clear(),
            News::Set(Some((namespace, published))) => {
                self.listing.insert(namespace.clone());
                self.contest(&namespace, &published);
                self.published.insert(namespace, published);
            }
            News::Gone(Some((namespace, _))) => {
                self.contests.remove(&namespace);
                self.published.remove(&namespace);
            }
            News::Complete | News::Absent(_) => {
                let listing = std::mem::take(&mut self.listing);
                self.published
                    .retain(|namespace, _| listing.contains(namespace));
                self.listed = true;
            }
            News::Set(None) | News::Gone(None) | News::Trouble(_) | News::Well => {}
        }
    }

    /// Counts how often somebody else replaced what was published here, and says it once of all namespaces.
    fn contest(&mut self, namespace: &str, published: &Published) {
        let Some(other) = &published.other else {
            return;
        };
        let Some(contest) = self.contests.get_mut(namespace) else {
            return;
        };
        if contest.ours == published.text || contest.is_lost() {
            return;
        }
        contest.lost += 1;
        if contest.is_lost() && !std::mem::replace(&mut self.told, true) {
            let map = self.bundle.name;
            let then = self.bundle.contested;
            tracing::warn!(
                namespace,
                by = other,
                "another control plane writes ConfigMap {map}: it is left to it, here and wherever it does so. {then}"
            );
        }
    }

    /// Says once that what was published stays: that a key is gone may be a mistake, and takes nothing back.
    fn tell_what_stays(&mut self, nothing_said: bool) {
        let mut all = self.published.iter();
        let ours = |found: &Published| !found.text.is_empty() && found.other.is_none();
        let first = all.find(|(_, found)| nothing_said && ours(found));
        let namespace = first.map(|(namespace, _)| namespace);
        let silent = std::mem::replace(&mut self.silent, namespace.is_some());
        if let Some(namespace) = namespace.filter(|_| !silent) {
            let Bundle { name, file, .. } = self.bundle;
            tracing::warn!(
                namespace,
                "the Secret of the authority has no key {file}: ConfigMap {name} stays as it is, here and wherever it is. \
                 Write the key with nothing in it to empty the ConfigMap"
            );
        }
    }

    /// Namespaces that do not have this text, or would keep it when the control plane is gone.
    fn wanting(&self, wanted: &Wanted) -> BTreeSet<String> {
        let can_own = wanted.owner.is_some();
        // One of another installation's is that one's.
        let stays = |found: &Published| can_own && !found.owned && found.other.is_none();
        let index = self.state.index();
        let staying = index
            .objects()
            .namespaces
            .all()
            .filter(|(.., namespace)| namespace.metadata.deletion_timestamp.is_none());
        let names = staying.map(|(_, name, _)| name.to_string());
        let differs = |name: &String| {
            let found = self.published.get(name);
            match found {
                // Who has nothing to say takes nothing back that others have said.
                Some(found) if wanted.text.is_empty() && found.other.is_some() => false,
                Some(found) => found.text != wanted.text || stays(found),
                None => !wanted.text.is_empty(),
            }
        };
        let is_lost = |name: &String| self.contests.get(name).is_some_and(Contest::is_lost);
        names
            .filter(|name| differs(name) && !is_lost(name))
            .collect()
    }

    async fn publish(&mut self, namespace: String, wanted: &Wanted) {
        match self.apply(&namespace, wanted).await {
            Ok(()) => {
                self.failed.remove(&namespace);
                let contest = self.contests.entry(namespace.clone()).or_default();
                wanted.text.clone_into(&mut contest.ours);
                let published = Published {
                    text: wanted.text.clone(),
                    owned: wanted.owner.is_some(),
                    other: None,
                };
                self.published.insert(namespace, published);
            }
            Err(failure) => {
                // Namespaces that are on their way out take nothing in.
                let map = self.bundle.name;
                tracing::debug!(%namespace, %failure, map, "not published");
                let fresh = || (Instant::now(), backoff());
                let (due, backoff) = self.failed.entry(namespace).or_insert_with(fresh);
                *due = Instant::now() + backoff.next(rand::rng().random());
            }
        }
    }

    async fn apply(&self, namespace: &str, wanted: &Wanted) -> Result<(), Failure> {
        let Bundle { name, file, .. } = self.bundle;
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "ownerReferences": Vec::from_iter(&wanted.owner),
            },
            "data": {file: wanted.text},
        });
        let all = path("", "v1", Some(namespace), "configmaps");
        self.cluster.apply(&format!("{all}/{name}"), &map).await?;
        Ok(())
    }

    /// A reference to the control plane's namespace.
    fn owner(&self) -> Option<Value> {
        let index = self.state.index();
        let namespace = index.objects().namespaces.find("", &self.own)?;
        let uid = namespace.metadata.uid.as_deref()?;
        Some(json!({"apiVersion": "v1", "kind": "Namespace", "name": self.own, "uid": uid}))
    }
}

fn read(wire: Wire<'_>, file: &str) -> Told {
    let object: Value = wire.object().ok()?;
    let namespace = object["metadata"]["namespace"].as_str()?.to_owned();
    let text = object["data"][file].as_str().unwrap_or_default();
    let owners = object["metadata"]["ownerReferences"].as_array();
    let published = Published {
        text: text.to_owned(),
        owned: owners.is_some_and(|owners| !owners.is_empty()),
        other: other_writer(&object, file),
    };
    Some((namespace, published))
}

/// Who else than this control plane has written the file, as the server keeps account of it.
fn other_writer(map: &Value, file: &str) -> Option<String> {
    let field = format!("f:{file}");
    let entries = map["metadata"]["managedFields"].as_array()?;
    let writes = |entry: &&Value| entry["fieldsV1"]["f:data"].get(&field).is_some();
    let name = |entry: &Value| entry["manager"].as_str().map(str::to_owned);
    let mut managers = entries.iter().filter(writes).filter_map(name);
    managers.find(|manager| manager != FIELD_MANAGER)
}

#[cfg(test)]
#[path = "bundles_tests.rs"]
mod tests;
