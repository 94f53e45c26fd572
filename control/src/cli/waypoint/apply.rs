//! `ambit waypoint apply`.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{gateway, namespace, progress, unknown};
use crate::cluster::collection::path;
use crate::cluster::{Cluster, escaped};
use crate::translate::labels::{DATAPLANE_MODE, GATEWAY_NAME, USE_WAYPOINT, WAYPOINT_FOR};
use crate::translate::waypoint::{CLASSES, HBONE_PORT};

/// How often the status is looked at.
const PAUSE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  ambit waypoint apply
  ambit waypoint apply --namespace shop --enroll-namespace --for all
  ambit waypoint apply checkout --namespace shop --wait
  kubectl label -n shop service/checkout istio.io/use-waypoint=checkout";

/// Flags of `ambit waypoint apply`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// The name of the waypoint
    #[arg(default_value = "waypoint")]
    pub name: String,
    /// Its namespace [default: that of kubectl's context]
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// What it serves: traffic to services, to addresses of pods, to both, or to nothing yet
    #[arg(long = "for", value_name = "TRAFFIC", default_value = "service")]
    pub serves: Serves,
    /// Binds the namespace to it, once it is ready
    #[arg(long)]
    pub enroll_namespace: bool,
    /// Returns when an instance serves, and fails with the reason when none does in time
    #[arg(long)]
    pub wait: bool,
    /// Seconds that it may take to be ready
    #[arg(long, value_name = "SECONDS", default_value = "90")]
    pub timeout: u64,
    /// Takes a Gateway over that something else has made
    #[arg(long)]
    pub overwrite: bool,
}

/// What a waypoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Serves {
    Service,
    Workload,
    All,
    None,
}

impl Flags {
    /// Applies the Gateway; the text to print.
    pub(super) async fn run(&self, cluster: &Cluster, of: &str) -> anyhow::Result<String> {
        let name = &self.name;
        let found = cluster.read::<Value>(&namespace(of)).await;
        let found = found.with_context(|| format!("namespace {of}"))?;
        let place = gateway(of, name);
        let object = object(of, name, self.serves);
        let applied = match self.overwrite {
            true => cluster.apply(&place, &object).await,
            false => cluster.offer(&place, &object).await,
        };
        match applied {
            Ok(_) => {}
            Err(failure) if failure.status() == Some(404) => return Err(unknown()),
            Err(failure) if failure.status() == Some(409) => {
                bail!("{failure}\n--overwrite takes Gateway {of}/{name} over");
            }
            Err(failure) => return Err(failure.into()),
        }
        let mut said = format!("waypoint {of}/{name} applied\n");
        if self.wait || self.enroll_namespace {
            let address = self.ready(cluster, of).await?;
            said.push_str(&format!("waypoint {of}/{name} is ready at {address}\n"));
        }
        if self.enroll_namespace {
            let change = json!({"metadata": {"labels": {USE_WAYPOINT: name}}});
            cluster.merge(&namespace(of), &change).await?;
            said.push_str(&format!("namespace {of} labelled {USE_WAYPOINT}={name}\n"));
        }
        if found["metadata"]["labels"][DATAPLANE_MODE] != "ambient" {
            said.push_str(&format!(
                "namespace {of} is not in the mesh: kubectl label namespace {of} {DATAPLANE_MODE}=ambient\n"
            ));
        }
        Ok(said)
    }

    /// Waits until an instance serves; its address.
    async fn ready(&self, cluster: &Cluster, of: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        loop {
            let waiting = match progress(&cluster.read(&gateway(of, &self.name)).await?) {
                Ok(address) => return Ok(address),
                Err(waiting) => waiting,
            };
            if Instant::now() + PAUSE > deadline {
                let selector = escaped(&format!("{GATEWAY_NAME}={}", self.name));
                let pods = path("", "v1", Some(of), "pods");
                let pods = format!("{pods}?labelSelector={selector}");
                let pods = cluster.list(&pods).await.unwrap_or_default();
                let all: Vec<String> = [waiting].into_iter().chain(stuck(&pods)).collect();
                return Err(anyhow!(
                    "waypoint {of}/{} is not ready after {} seconds: {}",
                    self.name,
                    self.timeout,
                    all.join("; ")
                ));
            }
            sleep(PAUSE).await;
        }
    }
}

/// The Gateway of a waypoint.
pub(super) fn object(of: &str, name: &str, serves: Serves) -> Value {
    let serves = serves.to_possible_value();
    let serves = serves.map(|value| value.get_name().to_owned());
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": of, "labels": {WAYPOINT_FOR: serves}},
        "spec": {
            "gatewayClassName": CLASSES[0],
            "listeners": [{"name": "mesh", "port": HBONE_PORT, "protocol": "HBONE"}],
        },
    })
}

/// What keeps pods from being ready, as the cluster says it.
pub(super) fn stuck(pods: &[Value]) -> Vec<String> {
    let mut all = Vec::new();
    for pod in pods {
        let status = &pod["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let unscheduled = conditions
            .filter(|one| one["type"] == "PodScheduled" && one["status"] == "False")
            .map(|one| text(&one["message"]));
        let containers = status["containerStatuses"].as_array().into_iter().flatten();
        let waiting = containers
            .map(|container| &container["state"]["waiting"])
            .filter(|waiting| waiting.is_object())
            .map(|waiting| format!("{} {}", text(&waiting["reason"]), text(&waiting["message"])));
        let name = text(&pod["metadata"]["name"]);
        let said = unscheduled.chain(waiting);
        all.extend(said.map(|why| format!("pod {name}: {}", why.trim())));
    }
    all
}
