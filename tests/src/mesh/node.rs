//! The mesh on one node: the agent, the proxy, and the pod that the proxy would be on a cluster.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::time::sleep;

use super::cni::Plugin;
use super::component::{Place, Recipe};
use super::{agents, control, names, published};
use crate::api::{Key, new_uid, now};
use crate::cluster::{Cluster, LabNode, VIRTUAL};
use crate::kubelet::resolv_conf;
use crate::net::plan;
use crate::stage::Mount;
use crate::tokens::{MESH_AUDIENCE, Subject};

const NAMESPACE: &str = "ambit-system";
const ACCOUNT: &str = "ztunnel";
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_RENEWAL: Duration = Duration::from_secs(1800);

/// The files of a node's components.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
    agent_socket: PathBuf,
    proxy_socket: PathBuf,
    token: PathBuf,
    root_certificate: PathBuf,
    revoked: PathBuf,
    mounts: Vec<Mount>,
}

/// The name of the pod that the proxy of a node would be.
#[must_use]
pub fn virtual_pod_name(node: &str) -> String {
    format!("ztunnel-{node}")
}

/// The pod that the proxy of a node would be on a cluster: what its token speaks for.
#[must_use]
pub fn virtual_pod(node: &LabNode) -> Pod {
    let addresses = plan::node(node.number)
        .both()
        .map(|address| address.to_string());
    let ready = |type_: &str| PodCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(now()),
        ..PodCondition::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(virtual_pod_name(&node.name)),
            namespace: Some(NAMESPACE.to_owned()),
            uid: Some(new_uid()),
            creation_timestamp: Some(now()),
            labels: Some([("app".to_owned(), "ztunnel".to_owned())].into()),
            annotations: Some([(VIRTUAL.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.name.clone()),
            service_account_name: Some(ACCOUNT.to_owned()),
            host_network: Some(true),
            containers: vec![Container {
                name: "ztunnel".to_owned(),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".to_owned()),
            conditions: Some(vec![ready("Ready"), ready("ContainersReady")]),
            container_statuses: Some(vec![ContainerStatus {
                name: "ztunnel".to_owned(),
                ready: true,
                started: Some(true),
                ..ContainerStatus::default()
            }]),
            pod_ip: Some(addresses[0].clone()),
            pod_ips: Some(
                addresses
                    .iter()
                    .map(|ip| PodIP { ip: ip.clone() })
                    .collect(),
            ),
            host_ip: Some(addresses[0].clone()),
            host_ips: Some(
                addresses
                    .iter()
                    .map(|ip| HostIP { ip: ip.clone() })
                    .collect(),
            ),
            ..PodStatus::default()
        }),
    }
}

/// Makes the files of a node's components.
pub(super) fn prepare(cluster: &Cluster, node: &LabNode, root: &Path) -> io::Result<Files> {
    let folder = root.join(&node.name);
    let secrets = folder.join("var/run/secrets");
    fs::create_dir_all(secrets.join("tokens"))?;
    fs::create_dir_all(secrets.join("istio"))?;
    let resolver = folder.join("resolv.conf");
    fs::write(&resolver, resolv_conf(NAMESPACE))?;
    let files = Files {
        agent_socket: folder.join("agent.sock"),
        proxy_socket: folder.join("ztunnel.sock"),
        // Where node proxies look by default, from their working folder.
        token: secrets.join("tokens/istio-token"),
        root_certificate: secrets.join("istio/root-cert.pem"),
        revoked: secrets.join("istio/ca-crl.pem"),
        mounts: vec![
            control::hosts_mount(&folder)?,
            Mount {
                source: resolver,
                target: PathBuf::from("/etc/resolv.conf"),
                read_only: true,
            },
        ],
        folder,
    };
    // Both change with what the control plane publishes.
    symlink(published::roots(root), &files.root_certificate)?;
    symlink(published::lists(root), &files.revoked)?;
    write_token(cluster, node, &files)?;
    Ok(files)
}

/// Renews the proxy's token for ever.
pub(super) async fn keep_token(cluster: Arc<Cluster>, node: Arc<LabNode>, files: Files) {
    loop {
        sleep(TOKEN_RENEWAL).await;
        if let Err(error) = write_token(&cluster, &node, &files) {
            tracing::error!(node = %node.name, %error, "cannot renew the proxy's token");
        }
    }
}

fn write_token(cluster: &Cluster, node: &LabNode, files: &Files) -> io::Result<()> {
    let key = Key::new(NAMESPACE, &virtual_pod_name(&node.name));
    let subject = cluster.read(|store| {
        store
            .pods
            .get(&key)
            .map(|pod| Subject::of_pod(store, pod))
            .unwrap_or_default()
    });
    let token = cluster.issuer.issue(&subject, MESH_AUDIENCE, TOKEN_SECONDS);
    let new = files.token.with_extension("new");
    fs::write(&new, token.map_err(io::Error::other)?)?;
    fs::rename(new, &files.token)
}

/// The recipes of a node's agent and proxy.
pub(super) fn recipes(
    cluster: &Cluster,
    node: &LabNode,
    files: &Files,
) -> Result<(Recipe, Recipe), String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let agent_program = cluster.settings.programs.join("ambit-cni");
    let agent_argv = vec![
        text(&agent_program),
        "agent".to_owned(),
        "--node-name".to_owned(),
        node.name.clone(),
        "--source-url".to_owned(),
        format!("http://{}:{}", plan::bridge().v4, agents::PORT),
        "--socket".to_owned(),
        text(&files.agent_socket),
        "--zds-socket".to_owned(),
        text(&files.proxy_socket),
    ];
    let agent = recipe(cluster, node, files, "agent", agent_argv, &[]);
    let program = proxy_program(cluster, node);
    let address = plan::node(node.number).v4.to_string();
    let discovery = format!("https://{}:{}", control::NAMES[2], control::DISCOVERY_PORT);
    let pod = virtual_pod_name(&node.name);
    let env = [
        ("XDS_ADDRESS", discovery.clone()),
        ("CA_ADDRESS", discovery),
        ("XDS_ROOT_CA", text(&files.root_certificate)),
        ("CA_ROOT_CA", text(&files.root_certificate)),
        ("CRL_PATH", text(&files.revoked)),
        ("AUTH_TOKEN", text(&files.token)),
        ("CLUSTER_ID", "Kubernetes".to_owned()),
        ("NETWORK", String::new()),
        ("NODE_NAME", node.name.clone()),
        ("POD_NAME", pod),
        ("POD_NAMESPACE", NAMESPACE.to_owned()),
        ("INSTANCE_IP", address),
        ("SERVICE_ACCOUNT", ACCOUNT.to_owned()),
        (names::OWN, cluster.settings.trust_domain.clone()),
        ("INPOD_UDS", text(&files.proxy_socket)),
        ("AMBIT_STATE_DIR", text(&files.folder.join("state"))),
        ("PROXY_MODE", "shared".to_owned()),
        // The agent leads DNS there, and not every proxy answers unless it is told to.
        ("ISTIO_META_DNS_CAPTURE", "true".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ];
    let proxy = recipe(cluster, node, files, "ztunnel", vec![text(&program)], &env);
    Ok((agent, proxy))
}

fn proxy_program(cluster: &Cluster, node: &LabNode) -> PathBuf {
    let choices = &cluster.settings.ztunnels;
    let own = choices
        .iter()
        .find(|choice| choice.node.as_ref() == Some(&node.name));
    let every = choices.iter().find(|choice| choice.node.is_none());
    own.or(every).map_or_else(
        || cluster.settings.programs.join("ztunnel"),
        |choice| choice.program.clone(),
    )
}

fn recipe(
    cluster: &Cluster,
    node: &LabNode,
    files: &Files,
    what: &str,
    argv: Vec<String>,
    env: &[(&str, String)],
) -> Recipe {
    let mut environment = control::environment();
    environment.extend(
        env.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    if what == "ztunnel" {
        environment.extend(cluster.settings.ztunnel_env.clone());
    }
    let place = Place {
        name: &node.name,
        netns: node.netns.path(),
        folder: &files.folder,
        mounts: &files.mounts,
    };
    Recipe::at(&place, what, argv, environment, cluster)
}

/// How the node's plugin is called.
pub(super) fn plugin(cluster: &Cluster, files: &Files) -> Plugin {
    Plugin {
        program: cluster.settings.programs.join("ambit-cni"),
        config: json!({
            "cniVersion": "1.0.0",
            "name": "lab",
            "type": "ambit-cni",
            "agentSocket": files.agent_socket,
        }),
        mounts: Vec::new(),
        folder: files.folder.clone(),
        mode: cluster.mode,
    }
}
