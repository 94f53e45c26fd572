//! Objects of the API server in the lab's store: listed, then watched. A watch that ends goes on from
//! where it was; one that cannot, or that says something unreadable, begins with a list again.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::api::{Key, Store, Table};
use crate::cluster::Cluster;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Lists everything that the lab acts upon, and watches it from then on.
///
/// # Errors
/// When a first list fails.
pub(super) async fn everything(client: &Client, cluster: &Arc<Cluster>) -> anyhow::Result<()> {
    follow(client, cluster, |store| &mut store.namespaces, replace).await?;
    follow(client, cluster, |store| &mut store.nodes, replace).await?;
    follow(
        client,
        cluster,
        |store| &mut store.service_accounts,
        replace,
    )
    .await?;
    follow(client, cluster, |store| &mut store.config_maps, replace).await?;
    follow(client, cluster, |store| &mut store.secrets, replace).await?;
    follow(client, cluster, |store| &mut store.services, replace).await?;
    follow(client, cluster, |store| &mut store.endpoint_slices, replace).await?;
    follow(client, cluster, |store| &mut store.pods, keep_status).await
}

/// Makes a new state of an object fit what the lab knows of it already.
type Merge<K> = fn(&K, &mut K);

fn replace<K>(_: &K, _: &mut K) {}

/// The kubelet is the one who says how a pod is, once it has a node.
fn keep_status(known: &Pod, new: &mut Pod) {
    let bound = known.spec.as_ref().is_some_and(|it| it.node_name.is_some());
    if bound && known.metadata.uid == new.metadata.uid {
        new.status = known.status.clone();
    }
}

trait Object:
    Resource<DynamicType = ()>
    + Metadata<Ty = ObjectMeta>
    + DeserializeOwned
    + Clone
    + Debug
    + PartialEq
    + Send
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()>
        + Metadata<Ty = ObjectMeta>
        + DeserializeOwned
        + Clone
        + Debug
        + PartialEq
        + Send
        + 'static
{
}

async fn follow<K: Object>(
    client: &Client,
    cluster: &Arc<Cluster>,
    table: fn(&mut Store) -> &mut Table<K>,
    merge: Merge<K>,
) -> anyhow::Result<()> {
    let mirror = Mirror {
        api: Api::all(client.clone()),
        cluster: Arc::clone(cluster),
        table,
        merge,
    };
    let version = mirror.list().await?;
    tokio::spawn(mirror.keep(version));
    Ok(())
}

/// One kind of objects.
struct Mirror<K> {
    api: Api<K>,
    cluster: Arc<Cluster>,
    table: fn(&mut Store) -> &mut Table<K>,
    merge: Merge<K>,
}

impl<K: Object> Mirror<K> {
    /// Makes the lab's objects those of the API server; tells their version.
    async fn list(&self) -> kube::Result<String> {
        let list = self.api.list(&ListParams::default()).await?;
        self.cluster.write(|store| {
            let table = (self.table)(store);
            let there: BTreeSet<Key> = list.items.iter().map(|it| Key::of(it.metadata())).collect();
            let gone: Vec<Key> = table
                .iter()
                .map(|(key, _)| key.clone())
                .filter(|key| !there.contains(key))
                .collect();
            for key in gone {
                table.remove(&key);
            }
            for object in list.items {
                self.put(table, object);
            }
        });
        Ok(list.metadata.resource_version.unwrap_or_default())
    }

    fn put(&self, table: &mut Table<K>, mut object: K) {
        // Changes with every write of anybody, and nobody here reads it.
        let metadata = Metadata::metadata_mut(&mut object);
        metadata.managed_fields = None;
        metadata.resource_version = None;
        if let Some(known) = table.get(&Key::of(Metadata::metadata(&object))) {
            (self.merge)(known, &mut object);
        }
        table.put(object);
    }

    async fn keep(self, mut version: String) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.watch(&mut version).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    let kind = K::kind(&());
                    tracing::warn!(%kind, %error, "a watch of the API server ended");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if let Ok(listed) = self.list().await {
                        version = listed;
                        pause = FIRST_PAUSE;
                    }
                }
            }
        }
    }

    /// Takes events until the API server ends the watch, as it does every few minutes.
    async fn watch(&self, version: &mut String) -> kube::Result<()> {
        let stream = self.api.watch(&WatchParams::default(), version).await?;
        let mut stream = pin!(stream);
        while let Some(event) = stream.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    note(version, &object);
                    self.cluster
                        .write(|store| self.put((self.table)(store), object));
                }
                WatchEvent::Deleted(object) => {
                    note(version, &object);
                    let key = Key::of(Metadata::metadata(&object));
                    self.cluster.write(|store| (self.table)(store).remove(&key));
                }
                WatchEvent::Bookmark(mark) => *version = mark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }
}

fn note<K: Object>(version: &mut String, object: &K) {
    if let Some(new) = &Metadata::metadata(object).resource_version {
        version.clone_from(new);
    }
}
