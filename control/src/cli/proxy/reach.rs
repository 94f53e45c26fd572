//! The way to a proxy: a port that the API server forwards, or an address.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::choice::{Instance, Kind, Unclear, Wanted, choose, there};
use super::part::Part;
use crate::cli::page::{LONGEST, ask};
use crate::cluster::collection::path;
use crate::cluster::{Cluster, Failure, escaped};

/// Where proxies answer operators, on their own loopback.
const ADMIN_PORT: u16 = 15000;
/// The installation's namespace, where node proxies are.
const SYSTEM: &str = "ambit-system";
/// What they know.
const DUMP: &str = "/config_dump";
/// Time for the whole answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which proxy is asked for which part of what it knows.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) kind: Kind,
    pub(super) wanted: Wanted<'a>,
    /// Where it is; without one, the usual of its kind.
    pub(super) namespace: Option<&'a str>,
    /// Where it is asked without the API server.
    pub(super) address: Option<SocketAddr>,
    pub(super) part: Part,
}

impl Asked<'_> {
    /// All that the proxy knows.
    ///
    /// # Errors
    /// No proxy is chosen, or it does not answer.
    pub(super) async fn dump(&self) -> anyhow::Result<Value> {
        if let Some(address) = self.address {
            return at(address, TcpStream::connect(address)).await;
        }
        let mut here = "";
        if self.wanted == Wanted::Only && self.namespace.is_none() {
            let own = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
            match TcpStream::connect(own).await {
                Ok(stream) => return at(own, async { Ok(stream) }).await,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    here = "nothing listens at 127.0.0.1:15000, and ";
                }
                Err(error) => return Err(error).context(own),
            }
        }
        let none = |error| anyhow!("{here}there is no API server to ask: {error}");
        let (cluster, own) = Cluster::of_operator().await.map_err(none)?;
        let usual = match self.kind {
            Kind::NodeProxy => SYSTEM,
            Kind::Waypoint => &own,
        };
        let namespace = self.namespace.unwrap_or(usual);
        self.forwarded(&cluster, namespace).await
    }

    /// What the proxy of a pod knows, by a port that is forwarded to it.
    async fn forwarded(&self, cluster: &Cluster, namespace: &str) -> anyhow::Result<Value> {
        let pod = self.pod(cluster, namespace).await?;
        let who = format!("{namespace}/{pod}");
        let asked = timeout(PATIENCE, through(cluster, namespace, &pod)).await;
        let page = asked.with_context(|| format!("{who}: no answer within {PATIENCE:?}"))?;
        let page = page.with_context(|| who.clone())?;
        let unreadable = || format!("{who}: what it answers is no proxy's state");
        serde_json::from_slice(&page).with_context(unreadable)
    }

    /// The pod to ask.
    async fn pod(&self, cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
        let pods = path("", "v1", Some(namespace), "pods");
        let all = format!("{pods}{}", self.kind.selector());
        let listed = cluster.list(&all).await;
        let listed = listed.with_context(|| format!("pods of namespace {namespace}"))?;
        let read = |pod| Instance::read(self.kind, pod);
        let instances: Vec<Instance> = listed.iter().filter_map(read).collect();
        let name = match choose(self.kind, self.wanted, self.part, &instances) {
            Ok(instance) => return Ok(instance.name.clone()),
            Err(Unclear::Said(said)) => bail!("namespace {namespace}: {said}"),
            Err(Unclear::Unknown(name)) => name,
        };
        let noun = self.kind.noun();
        let there = there(self.kind, instances.iter());
        let place = format!("{pods}/{}", escaped(&name));
        match cluster.read::<Value>(&place).await {
            Ok(_) => bail!("pod {namespace}/{name} is no {noun}; {there}"),
            Err(failure) if failure.status() == Some(404) => match self.kind {
                Kind::NodeProxy => bail!("namespace {namespace} has no pod {name}; {there}"),
                Kind::Waypoint => {
                    bail!("namespace {namespace} has no waypoint {name}, and no pod; {there}")
                }
            },
            Err(failure) => Err(failure).with_context(|| format!("pod {namespace}/{name}")),
        }
    }
}

/// The page of a pod, by a port that is forwarded to it.
async fn through(cluster: &Cluster, namespace: &str, pod: &str) -> anyhow::Result<Bytes> {
    let forward = cluster.forward(namespace, pod, ADMIN_PORT).await;
    let forward = forward.map_err(|failure| unforwarded(&failure, namespace))?;
    let host = format!("localhost:{ADMIN_PORT}");
    tokio::select! {
        // What the kubelet says explains that the connection ends.
        biased;
        Some(said) = forward.broken => bail!("its kubelet cannot reach port {ADMIN_PORT}: {}", said.trim()),
        page = ask(forward.stream, &host, DUMP, LONGEST) => page,
    }
}

/// Why a port is not forwarded, and what helps.
fn unforwarded(failure: &Failure, namespace: &str) -> anyhow::Error {
    match failure.status() {
        Some(403) => anyhow!(
            "the API server does not let you forward its port: it needs the rights to get and to create \
             pods/portforward in namespace {namespace}"
        ),
        Some(404) => anyhow!("the pod is gone"),
        Some(status @ 500..) => anyhow!(
            "the API server does not reach the kubelet of its node (status {status}); `kubectl port-forward` has the same way"
        ),
        _ => anyhow!("{failure}"),
    }
}

/// What the proxy at an address knows.
async fn at(
    address: SocketAddr,
    connecting: impl Future<Output = io::Result<TcpStream>>,
) -> anyhow::Result<Value> {
    let page = async {
        let stream = connecting.await?;
        let page = ask(stream, &address.to_string(), DUMP, LONGEST).await?;
        anyhow::Ok(serde_json::from_slice(&page)?)
    };
    let asked = timeout(PATIENCE, page).await;
    asked
        .with_context(|| format!("{address}: no answer within {PATIENCE:?}"))?
        .with_context(|| format!("{address} is no proxy's admin address"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake::Fake;

    fn pod(name: &str, labels: Value, phase: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "mesh", "labels": labels},
            "spec": {"nodeName": "n1"},
            "status": {"phase": phase},
        })
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_said() {
        let fake = Fake::start().await;
        let proxies = json!({"app.kubernetes.io/name": "ztunnel"});
        fake.set("/pods", pod("z", proxies, "Running"));
        fake.set("/pods", pod("web", json!({}), "Running"));
        let pods = "/api/v1/namespaces/mesh/pods";
        let list = &*format!("GET {pods}?");
        let forward = &*format!("GET {pods}/z/portforward?");
        let named = Wanted::Named;
        for (wanted, failing, expected) in [
            (
                named("y"),
                None,
                "namespace mesh has no pod y; there is z on n1",
            ),
            (
                named("web"),
                None,
                "pod mesh/web is no node proxy; there is z on n1",
            ),
            (
                Wanted::OnNode("n2"),
                None,
                "namespace mesh: node n2 has no node proxy; there is z on n1",
            ),
            (
                named("z"),
                Some((list, 403)),
                "pods of namespace mesh: the fake says Failing (403 Failing)",
            ),
            (
                named("z"),
                Some((forward, 403)),
                "mesh/z: the API server does not let you forward its port: it needs the rights to get and to create \
                 pods/portforward in namespace mesh",
            ),
            (named("z"), Some((forward, 404)), "mesh/z: the pod is gone"),
            (
                Wanted::OnNode("n1"),
                Some((forward, 502)),
                "mesh/z: the API server does not reach the kubelet of its node (status 502)",
            ),
            (
                named("z"),
                Some((forward, 400)),
                "mesh/z: no port is forwarded (400 Bad Request)",
            ),
        ] {
            if let Some((what, status)) = failing {
                fake.fail(what, status, None);
            }
            let asked = Asked {
                kind: Kind::NodeProxy,
                wanted,
                namespace: None,
                address: None,
                part: Part::Workloads,
            };
            let said = asked.forwarded(&fake.cluster(), "mesh").await;
            let said = format!("{:#}", said.expect_err("it cannot be asked"));
            assert!(said.starts_with(expected), "{said}");
            fake.heal();
        }
    }
}
