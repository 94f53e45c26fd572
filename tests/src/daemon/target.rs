//! What commands point at: pods, deployments, nodes and the parts of the mesh.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep};

use crate::api::{Key, controlled_by};
use crate::cluster::{Cluster, LabNode};
use crate::controllers::{container_statuses, is_ready, is_terminating};
use crate::kubelet::{Order, Place};
use crate::mesh::component_log;
use crate::net::weather::Weather;
use crate::stage::Target;

const PAUSE: Duration = Duration::from_millis(50);

type Problems = Vec<String>;

/// Where a command runs. `env` adds to the environment.
pub(super) fn place(
    cluster: &Cluster,
    target: &str,
    namespace: &str,
    container: Option<&str>,
    env: BTreeMap<String, String>,
) -> Result<Place, Problems> {
    if let Some(name) = target.strip_prefix("machine/") {
        return on_machine(cluster, name, env);
    }
    if let Some(node) = node(cluster, target)? {
        let mut all: BTreeMap<String, String> = std::env::vars().collect();
        all.extend(env);
        cluster.settings.add_to_path(&mut all);
        return Ok(Place {
            target: Target::Network(node.netns.path().to_owned()),
            env: all,
            cwd: PathBuf::from("/"),
        });
    }
    let key = pod(cluster, target, namespace)?;
    let running = cluster
        .with_pod(&key, |pod| pod.running())
        .unwrap_or_default();
    let found = match container {
        Some(name) => running.get(name),
        None => first_container(cluster, &key).and_then(|name| running.get(&name)),
    };
    let running = found.ok_or_else(|| vec![format!("pod {key} has no such container running")])?;
    let mut place = running.place.clone();
    for (name, value) in env {
        place.env.entry(name).or_insert(value);
    }
    Ok(place)
}

/// On a machine: beside the program that serves there, with its view of files and names, or in a network that nothing is in yet.
fn on_machine(
    cluster: &Cluster,
    name: &str,
    env: BTreeMap<String, String>,
) -> Result<Place, Problems> {
    let unknown = || vec![format!("no machine called {name:?} runs")];
    let machine = cluster.machine(name).ok_or_else(unknown)?;
    let target = match cluster.mesh() {
        Some(mesh) => {
            let pid = mesh.pid(&format!("echo/{name}"));
            Target::Container(pid.ok_or_else(unknown)?)
        }
        None => Target::Network(machine.netns.path().to_owned()),
    };
    let mut all: BTreeMap<String, String> = std::env::vars().collect();
    all.extend(env);
    cluster.settings.add_to_path(&mut all);
    Ok(Place {
        target,
        env: all,
        cwd: PathBuf::from("/"),
    })
}

/// Where something logs to.
pub(super) fn log_file(
    cluster: &Cluster,
    target: &str,
    namespace: &str,
    container: Option<&str>,
) -> Result<PathBuf, Problems> {
    if is_component(cluster, target) {
        return Ok(component_log(&cluster.state.logs(), target));
    }
    let key = pod(cluster, target, namespace)?;
    let container = container
        .map(str::to_owned)
        .or_else(|| first_container(cluster, &key));
    let container = container.ok_or_else(|| vec![format!("pod {key} has no containers")])?;
    Ok(cluster.pod_log(&key, &container))
}

/// Ends something at once.
pub(super) async fn kill(cluster: &Cluster, target: &str, namespace: &str) -> Result<(), Problems> {
    if let Some(node) = powered(cluster, target)? {
        return cluster.power_off(node).await.map_err(|it| vec![it]);
    }
    order(cluster, target, namespace, Order::Kill).map(drop)
}

/// Ends something in order and waits until it is back.
pub(super) async fn restart(
    cluster: &Cluster,
    target: &str,
    namespace: &str,
    patience: Duration,
) -> Result<(), Problems> {
    if let Some(node) = powered(cluster, target)? {
        if node.is_on() {
            cluster.power_off(node).await.map_err(|it| vec![it])?;
        }
        cluster.power_on(node);
        return Ok(());
    }
    let before = generation(cluster, target, namespace);
    order(cluster, target, namespace, Order::Restart)?;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let now = generation(cluster, target, namespace);
        if now.0 > before.0 && now.1 {
            return match cluster.mesh().filter(|_| is_component(cluster, target)) {
                Some(mesh) => mesh
                    .await_component(cluster, target)
                    .await
                    .map_err(|it| vec![it]),
                None => Ok(()),
            };
        }
        sleep(PAUSE).await;
    }
    Err(vec![format!("{target} is not back after {patience:?}")])
}

/// Changes the weather between a node and the others.
pub(super) fn network(cluster: &Cluster, target: &str, weather: Weather) -> Result<(), Problems> {
    let node = node(cluster, target)?;
    let node = node.ok_or_else(|| vec![format!("{target} is no node: write node/NAME")])?;
    let set = node.set_weather(weather);
    set.map_err(|error| vec![format!("the network of {}: {error}", node.name)])
}

/// The node that `target` is, where nodes have a power switch: what the mesh runs there has to be pods.
fn powered<'a>(cluster: &'a Cluster, target: &str) -> Result<Option<&'a LabNode>, Problems> {
    let node = node(cluster, target)?;
    if node.is_some() && cluster.api_server().is_none() {
        return Err(vec![format!(
            "{target}: only nodes of a lab that is joined to an API server"
        )]);
    }
    Ok(node)
}

/// The node that `target` is, if it is said to be one.
fn node<'a>(cluster: &'a Cluster, target: &str) -> Result<Option<&'a LabNode>, Problems> {
    let Some(name) = target.strip_prefix("node/") else {
        return Ok(None);
    };
    let node = cluster.node(name).map(|node| &**node);
    let node = node.ok_or_else(|| vec![format!("no node is called {name:?}")]);
    node.map(Some)
}

/// How often something was started again, and whether it runs.
fn generation(cluster: &Cluster, target: &str, namespace: &str) -> (i64, bool) {
    if let Some(mesh) = cluster.mesh() {
        let found = mesh
            .statuses()
            .into_iter()
            .find(|status| status.name == target);
        if let Some(status) = found {
            return (status.restarts.into(), status.pid.is_some());
        }
    }
    let Ok(key) = pod(cluster, target, namespace) else {
        return (0, false);
    };
    cluster.read(|store| {
        store.pods.get(&key).map_or((0, false), |pod| {
            let restarts = container_statuses(pod)
                .map(|it| i64::from(it.restart_count))
                .sum();
            (restarts, is_ready(pod))
        })
    })
}

fn order(cluster: &Cluster, target: &str, namespace: &str, order: Order) -> Result<(), Problems> {
    if let Some(mesh) = cluster.mesh()
        && mesh.order(target, order)
    {
        return Ok(());
    }
    let key = pod(cluster, target, namespace)?;
    match cluster.with_pod(&key, |pod| pod.order(order)) {
        Some(count) if count > 0 => Ok(()),
        _ => Err(vec![format!("pod {key} has no containers running")]),
    }
}

fn is_component(cluster: &Cluster, target: &str) -> bool {
    cluster
        .mesh()
        .is_some_and(|mesh| mesh.statuses().iter().any(|status| status.name == target))
}

/// The pod that `target` means: a pod's name, `pod/NAME`, or `deploy/NAME` or `waypoint/NAME` for one that serves.
fn pod(cluster: &Cluster, target: &str, namespace: &str) -> Result<Key, Problems> {
    let (kind, name) = target.split_once('/').unwrap_or(("pod", target));
    let key = Key::new(namespace, name);
    match kind {
        "pod" | "po" | "pods" => {
            let there = cluster.read(|store| store.pods.contains(&key));
            there
                .then_some(key)
                .ok_or_else(|| vec![format!("pod {namespace}/{name} not found")])
        }
        "deploy" | "deployment" | "waypoint" => of_deployment(cluster, &key),
        "sts" | "statefulset" => Ok(Key::new(namespace, &format!("{name}-0"))),
        _ => Err(vec![format!(
            "{target:?} is no pod, deploy/NAME, sts/NAME, waypoint/NAME, node/NAME or part of the mesh"
        )]),
    }
}

fn of_deployment(cluster: &Cluster, key: &Key) -> Result<Key, Problems> {
    cluster.read(|store| {
        let deployment = store.deployments.get(key);
        let deployment = deployment.ok_or_else(|| vec![format!("deployment {key} not found")])?;
        let sets: Vec<_> = store
            .replica_sets
            .within(&key.namespace)
            .filter(|set| controlled_by(&set.metadata, &deployment.metadata))
            .collect();
        let mine = |pod: &&Pod| {
            !is_terminating(pod)
                && sets
                    .iter()
                    .any(|set| controlled_by(&pod.metadata, &set.metadata))
        };
        let pods = store.pods.within(&key.namespace).filter(mine);
        let best = pods.max_by_key(|pod| is_ready(pod));
        let best = best.ok_or_else(|| vec![format!("deployment {key} has no pods")])?;
        Ok(Key::of(&best.metadata))
    })
}

fn first_container(cluster: &Cluster, key: &Key) -> Option<String> {
    cluster.read(|store| {
        let spec = store.pods.get(key)?.spec.as_ref()?;
        spec.containers
            .first()
            .map(|container| container.name.clone())
    })
}
