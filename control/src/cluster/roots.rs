//! Keeps the roots of the mesh in a ConfigMap of every namespace, where waypoints and node proxies mount
//! them, while this replica holds the Lease. Where another control plane writes its own there, it is not fought.
//!
//! The ConfigMaps belong to the control plane's own namespace: the garbage collector takes them away after it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ambit_core::backoff::Backoff;
use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::collection::{Collection, path};
use super::follow::{Hint, News, follow};
use super::lease::{Held, holds};
use super::pace::{PACE, backoff, sleep_until};
use super::{Cluster, FIELD_MANAGER, Failure};
use crate::ca::Signing;
use crate::engine::State;
use crate::source::parse::Wire;

/// As Istio has it.
pub const NAME: &str = "istio-ca-root-cert";
/// Its only key.
pub const FILE: &str = "root-cert.pem";

/// Follows, and writes while the Lease is held, until the process ends. `own` is the control plane's namespace.
pub async fn run(
    cluster: Cluster,
    own: String,
    state: Arc<State>,
    signing: Signing,
    mut held: Held,
) {
    let (sender, news) = mpsc::channel(64);
    let hints = watch::channel(Hint::default()).0;
    let maps = Collection::all("", &["v1"], "configmaps").named(NAME);
    let following = follow(cluster.clone(), maps, read, hints.subscribe(), ((), sender));
    tokio::spawn(following);
    let mut writer = Writer {
        cluster,
        own,
        state,
        signing,
        news,
        published: BTreeMap::new(),
        contests: BTreeMap::new(),
        told: false,
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
    roots: String,
    /// Whether it goes with something.
    owned: bool,
    /// The field manager that wrote them last, when it was not this one.
    other: Option<String>,
}

/// What is to be in every namespace.
struct Wanted {
    roots: String,
    /// A reference to the control plane's namespace, once that is known.
    owner: Option<Value>,
}

/// A namespace whose roots somebody else writes: after so many times it is left to them.
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
    cluster: Cluster,
    own: String,
    state: Arc<State>,
    signing: Signing,
    news: mpsc::Receiver<((), News<Told>)>,
    published: BTreeMap<String, Published>,
    contests: BTreeMap<String, Contest>,
    /// Whether it was said that another control plane writes them.
    told: bool,
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
            let roots = self.signing.borrow_and_update().roots().to_owned();
            let owner = self.owner();
            let wanted = Wanted { roots, owner };
            let mut wake = None;
            if holds(held) && self.listed {
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
        if contest.ours == published.roots || contest.is_lost() {
            return;
        }
        contest.lost += 1;
        if contest.is_lost() && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                namespace,
                by = other,
                "another control plane writes ConfigMap {NAME}: it is left to it, here and wherever it does so. \
                 Waypoints and node proxies there trust this control plane only if both have one authority: \
                 give them the same Secret cacerts"
            );
        }
    }

    /// Namespaces that do not have these roots, or would keep them when the control plane is gone.
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
            found.is_none_or(|found| found.roots != wanted.roots || stays(found))
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
                wanted.roots.clone_into(&mut contest.ours);
                let published = Published {
                    roots: wanted.roots.clone(),
                    owned: wanted.owner.is_some(),
                    other: None,
                };
                self.published.insert(namespace, published);
            }
            Err(failure) => {
                // Namespaces that are on their way out take nothing in.
                tracing::debug!(%namespace, %failure, "the roots were not published");
                let fresh = || (Instant::now(), backoff());
                let (due, backoff) = self.failed.entry(namespace).or_insert_with(fresh);
                *due = Instant::now() + backoff.next(rand::rng().random());
            }
        }
    }

    async fn apply(&self, namespace: &str, wanted: &Wanted) -> Result<(), Failure> {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "namespace": namespace,
                "ownerReferences": Vec::from_iter(&wanted.owner),
            },
            "data": {FILE: wanted.roots},
        });
        let all = path("", "v1", Some(namespace), "configmaps");
        self.cluster.apply(&format!("{all}/{NAME}"), &map).await?;
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

fn read(wire: Wire<'_>) -> Told {
    #[derive(Deserialize)]
    struct Event {
        object: Value,
    }
    let object = match wire {
        Wire::Item(item) => item.clone(),
        Wire::Event(line) => serde_json::from_slice::<Event>(line).ok()?.object,
    };
    let namespace = object["metadata"]["namespace"].as_str()?.to_owned();
    let roots = object["data"][FILE].as_str().unwrap_or_default();
    let owners = object["metadata"]["ownerReferences"].as_array();
    let published = Published {
        roots: roots.to_owned(),
        owned: owners.is_some_and(|owners| !owners.is_empty()),
        other: other_writer(&object),
    };
    Some((namespace, published))
}

/// Who else than this control plane has written the roots, as the server keeps account of it.
fn other_writer(map: &Value) -> Option<String> {
    let field = format!("f:{FILE}");
    let entries = map["metadata"]["managedFields"].as_array()?;
    let writes = |entry: &&Value| entry["fieldsV1"]["f:data"].get(&field).is_some();
    let name = |entry: &Value| entry["manager"].as_str().map(str::to_owned);
    let mut managers = entries.iter().filter(writes).filter_map(name);
    managers.find(|manager| manager != FIELD_MANAGER)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    use crate::ca::Authority;
    use crate::ca::material::Pems;
    use crate::cluster::fake::Fake;
    use crate::source::{Batch, Event, Object, Origin};
    use crate::translate::Mesh;

    fn authority() -> Arc<Authority> {
        let now = SystemTime::now();
        let pems = Pems::generate("td", now).expect("made");
        Arc::new(Authority::new(&pems, now).expect("whole"))
    }

    #[tokio::test]
    async fn every_namespace_has_the_roots_of_now() {
        let fake = Fake::start().await;
        let stale = json!({"metadata": {"name": NAME, "namespace": "b"}, "data": {FILE: "old"}});
        fake.set("/configmaps", stale);
        let state = Arc::new(State::new(Mesh::default()));
        let (held, holds) = watch::channel(None);
        let (sign, signing) = watch::channel(authority());
        let own = "a".to_owned();
        tokio::spawn(run(fake.cluster(), own, state.clone(), signing, holds));
        let mut batch = Batch::default();
        for name in ["a", "b"] {
            let metadata = json!({"name": name, "uid": format!("uid of {name}")});
            let namespace = serde_json::from_value(json!({"metadata": metadata}));
            let namespace = Object::Namespace(Arc::new(namespace.expect("a namespace")));
            batch
                .events
                .push(Event::Apply(namespace, Origin::default()));
        }
        state.apply(batch);
        fake.until(|fake| !fake.requests("watch").is_empty()).await;
        assert!(fake.requests("PATCH").is_empty(), "nobody else writes");
        fake.fail("PATCH", 500, None);
        held.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        let everywhere = |roots: String| {
            move |fake: &Fake| {
                ["a", "b"].iter().all(|namespace| {
                    let map = fake.object("/configmaps", namespace, NAME);
                    map.is_some_and(|map| map["data"][FILE] == roots.as_str())
                })
            }
        };
        let first = sign.borrow().roots().to_owned();
        fake.until(everywhere(first.clone())).await;
        let map = fake.object("/configmaps", "b", NAME).expect("a map");
        let owner =
            json!({"apiVersion": "v1", "kind": "Namespace", "name": "a", "uid": "uid of a"});
        assert_eq!(map["metadata"]["ownerReferences"], json!([owner]));
        fake.remove("/configmaps", "a", NAME);
        fake.until(everywhere(first)).await;
        let next = authority();
        sign.send_replace(next.clone());
        fake.until(everywhere(next.roots().to_owned())).await;
    }

    /// Roots that are right and would stay when the control plane goes get their owner, once; another installation's have one.
    #[tokio::test]
    async fn roots_that_belong_to_nobody_get_an_owner() {
        let fake = Fake::start().await;
        let state = Arc::new(State::new(Mesh::default()));
        let (held, holds) = watch::channel(None);
        let (sign, signing) = watch::channel(authority());
        let roots = sign.borrow().roots().to_owned();
        let map = |namespace: &str, owners: Value| {
            let metadata = json!({"name": NAME, "namespace": namespace, "ownerReferences": owners});
            json!({"metadata": metadata, "data": {FILE: roots}})
        };
        fake.set("/configmaps", map("own", json!([])));
        fake.set("/configmaps", map("theirs", json!([{"uid": "another"}])));
        let own = "own".to_owned();
        tokio::spawn(run(fake.cluster(), own, state.clone(), signing, holds));
        let mut batch = Batch::default();
        for name in ["own", "theirs", "new"] {
            let metadata = json!({"name": name, "uid": format!("uid of {name}")});
            let namespace = serde_json::from_value(json!({"metadata": metadata}));
            let namespace = Object::Namespace(Arc::new(namespace.expect("a namespace")));
            let event = Event::Apply(namespace, Origin::default());
            batch.events.push(event);
        }
        state.apply(batch);
        held.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        let is_owned = |fake: &Fake, namespace: &str| {
            let map = fake.object("/configmaps", namespace, NAME);
            map.is_some_and(|map| map["metadata"]["ownerReferences"][0]["uid"] == "uid of own")
        };
        fake.until(|fake| is_owned(fake, "own") && is_owned(fake, "new"))
            .await;
        // What comes later is written; what is right is not written again.
        fake.remove("/configmaps", "new", NAME);
        fake.until(|fake| is_owned(fake, "new")).await;
        let writes = fake.requests("PATCH");
        let of = |namespace: &str| {
            let path = format!("/{namespace}/");
            writes.iter().filter(|it| it.contains(&path)).count()
        };
        assert_eq!(
            (of("own"), of("theirs"), of("new")),
            (1, 0, 2),
            "{writes:?}"
        );
    }

    /// Another control plane that writes its roots into the same ConfigMap at once, for ever.
    #[tokio::test]
    async fn who_writes_its_own_is_not_fought() {
        let fake = Fake::start().await;
        let state = Arc::new(State::new(Mesh::default()));
        let held = Some(Instant::now() + Duration::from_secs(3600));
        let (_held, holds) = watch::channel(held);
        let (sign, signing) = watch::channel(authority());
        let roots = sign.borrow().roots().to_owned();
        let own = "ambit-system".to_owned();
        tokio::spawn(run(fake.cluster(), own, state.clone(), signing, holds));
        let mut batch = Batch::default();
        for name in ["contested", "quiet"] {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}}));
            let namespace = Object::Namespace(Arc::new(namespace.expect("a namespace")));
            let event = Event::Apply(namespace, Origin::default());
            batch.events.push(event);
        }
        state.apply(batch);
        let theirs = json!({
            "metadata": {
                "name": NAME, "namespace": "contested",
                "managedFields": [{
                    "manager": "pilot-discovery", "operation": "Update",
                    "fieldsV1": {"f:data": {".": {}, "f:root-cert.pem": {}}},
                }],
            },
            "data": {FILE: "theirs"},
        });
        let is_ours = |fake: &Fake, namespace: &str| {
            let map = fake.object("/configmaps", namespace, NAME);
            map.is_some_and(|map| map["data"][FILE] == roots.as_str())
        };
        for _ in 0..2 {
            fake.until(|fake| is_ours(fake, "contested")).await;
            fake.set("/configmaps", theirs.clone());
        }
        // What comes after is written; what is contested is not.
        fake.remove("/configmaps", "quiet", NAME);
        fake.until(|fake| is_ours(fake, "quiet")).await;
        let writes = fake.requests("PATCH");
        let contested = writes.iter().filter(|path| path.contains("contested"));
        assert_eq!(contested.count(), 2);
        let map = fake.object("/configmaps", "contested", NAME);
        assert_eq!(map.expect("a map")["data"][FILE], "theirs");
    }
}
