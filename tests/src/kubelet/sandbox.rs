//! A pod's sandbox: its network namespace, addresses and files, and the CNI plugin's word.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::chain;
use super::host::NodeFiles;
use crate::api::{Key, random_suffix};
use crate::cluster::{Cluster, LabNode};
use crate::mesh::{CniRequest, Plugin};
use crate::net::plan::{CLUSTER_DOMAIN, Pair};
use crate::net::{NamedNetns, plan, topology};
use crate::stage::Mount;

const FOLDER: &str = "/run/ambit-lab/pods";

/// What a pod's containers share.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Its number as container runtimes give it.
    id: String,
    netns: PathBuf,
    own: Option<Own>,
    pub(super) addresses: Pair,
    pub(super) folder: PathBuf,
    pub(super) hostname: String,
    key: Key,
    uid: String,
    /// Whether the plugin has been asked, so that it must be told of the end.
    announced: bool,
}

/// What a pod has that is not on its node's network.
#[derive(Debug)]
struct Own {
    netns: NamedNetns,
    device: String,
    index: u8,
    /// Whether it is seen among the processes of its node.
    process: bool,
}

impl Sandbox {
    /// Makes the sandbox of `pod`, without asking the plugin.
    ///
    /// # Errors
    /// What could not be made.
    pub(super) fn make(node: &LabNode, pod: &Pod) -> io::Result<Self> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = Key::of(&pod.metadata);
        let folder = Path::new(FOLDER).join(&uid);
        fs::create_dir_all(folder.join("volumes"))?;
        let spec = pod.spec.clone().unwrap_or_default();
        let hostname = spec.hostname.clone().unwrap_or_else(|| key.name.clone());
        let id = random_hex(64);
        let mut sandbox = Self {
            netns: node.netns.path().to_owned(),
            own: None,
            addresses: plan::node(node.number),
            folder,
            hostname,
            key,
            uid,
            announced: false,
            id,
        };
        if spec.host_network != Some(true) {
            sandbox.join(node)?;
        }
        sandbox.write_files(spec.subdomain.as_deref())?;
        Ok(sandbox)
    }

    fn join(&mut self, node: &LabNode) -> io::Result<()> {
        let index = node
            .take_index()
            .ok_or_else(|| io::Error::other("no free pod address"))?;
        let addresses = plan::pod(node.number, index);
        let netns = NamedNetns::create(&format!("cni-{}", &self.uid))
            .inspect_err(|_| node.free_index(index))?;
        let device = format!("veth{}", random_suffix(8));
        self.netns = netns.path().to_owned();
        self.addresses = addresses;
        let joined =
            topology::join_pod(node.netns.netns(), node.number, &netns, &device, addresses);
        let path = self.netns.clone();
        self.own = Some(Own {
            netns,
            device,
            index,
            process: false,
        });
        if let Err(error) = joined {
            self.unmake(node);
            return Err(error);
        }
        NodeFiles::of(&node.name).add_pod(pid(index), &path, &self.uid, &self.id)?;
        if let Some(own) = &mut self.own {
            own.process = true;
        }
        Ok(())
    }

    fn write_files(&self, subdomain: Option<&str>) -> io::Result<()> {
        let namespace = &self.key.namespace;
        let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".to_owned();
        let full = subdomain.map(|subdomain| {
            format!(
                "{}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN} ",
                self.hostname
            )
        });
        for address in self.addresses.both() {
            let full = full.as_deref().unwrap_or_default();
            hosts.push_str(&format!("{address} {full}{}\n", self.hostname));
        }
        fs::write(self.folder.join("hosts"), hosts)?;
        fs::write(self.folder.join("hostname"), format!("{}\n", self.hostname))?;
        fs::write(self.folder.join("resolv.conf"), resolv_conf(namespace))?;
        Ok(())
    }

    /// Tells the plugin of the pod, as a container runtime does before the first process.
    ///
    /// # Errors
    /// The plugin's reason.
    pub(super) async fn announce(
        &mut self,
        cluster: &Cluster,
        node: &LabNode,
    ) -> Result<(), String> {
        if self.own.is_none() {
            return Ok(());
        }
        for plugin in plugins(cluster, node)? {
            self.announced = true;
            plugin.call("ADD", node, &self.request()).await?;
        }
        Ok(())
    }

    /// Tells the plugin of the end and removes everything.
    pub(super) async fn remove(self, cluster: &Cluster, node: &LabNode) {
        if self.announced
            && let Err(error) = self.part(cluster, node).await
        {
            tracing::warn!(pod = %self.key, %error, "the CNI plugin could not remove a pod");
        }
        self.lose(node);
    }

    /// Removes everything without telling the plugin, as a node that loses its power.
    pub(super) fn lose(mut self, node: &LabNode) {
        self.unmake(node);
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(pod = %self.key, %error, "cannot remove a pod's folder");
        }
    }

    async fn part(&self, cluster: &Cluster, node: &LabNode) -> Result<(), String> {
        for plugin in plugins(cluster, node)?.into_iter().rev() {
            plugin.call("DEL", node, &self.request()).await?;
        }
        Ok(())
    }

    fn unmake(&mut self, node: &LabNode) {
        let Some(own) = self.own.take() else { return };
        if own.process {
            NodeFiles::of(&node.name).remove_pod(pid(own.index), &self.key);
        }
        if let Err(error) = topology::part_pod(node.netns.netns(), &own.device) {
            tracing::warn!(pod = %self.key, %error, "cannot remove a pod's link");
        }
        own.netns.remove();
        node.free_index(own.index);
    }

    fn request(&self) -> CniRequest {
        CniRequest {
            container_id: self.id.clone(),
            netns: self.netns.clone(),
            pod: self.key.clone(),
            uid: self.uid.clone(),
            addresses: self.addresses,
        }
    }

    /// The file of the network namespace.
    pub(super) fn netns(&self) -> &Path {
        &self.netns
    }

    /// The files of its own that every container sees in the place of the machine's.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        ["hosts", "hostname", "resolv.conf"]
            .into_iter()
            .map(|name| Mount {
                source: self.folder.join(name),
                target: Path::new("/etc").join(name),
                read_only: false,
            })
            .collect()
    }
}

/// The CNI plugins that are asked about the pods of a node, after the lab's own network.
fn plugins(cluster: &Cluster, node: &LabNode) -> Result<Vec<Plugin>, String> {
    if cluster.api_server().is_some() {
        return chain::plugins(node, cluster.mode);
    }
    cluster
        .mesh()
        .map_or(Ok(Vec::new()), |mesh| Ok(vec![mesh.plugin(node)?.clone()]))
}

/// The number of a sandbox's process, as its node shows it.
fn pid(index: u8) -> u32 {
    1000 + u32::from(index)
}

/// The resolver configuration of a pod in `namespace`.
#[must_use]
pub(crate) fn resolv_conf(namespace: &str) -> String {
    let dns = plan::dns();
    format!(
        "nameserver {}\nnameserver {}\nsearch {namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} \
         {CLUSTER_DOMAIN}\noptions ndots:5\n",
        dns.v4, dns.v6
    )
}

fn random_hex(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        text.push_str(&format!("{:016x}", rand::random::<u64>()));
    }
    text.truncate(length);
    text
}
