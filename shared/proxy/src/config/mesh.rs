//! Who this proxy is, and its control plane.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ambit_core::index::DEFAULT_ROOT_NAMESPACE;
use ambit_core::trust_domain::{Aliases, TrustDomain, TrustDomains};
use ambit_net::grpc::Address;
use serde::Serialize;

use super::reader::Reader;
use super::value::{self, Namespace};

const ROOT_CA: &str = "./var/run/secrets/istio/root-cert.pem";
const TOKEN: &str = "./var/run/secrets/tokens/istio-token";

/// Where and who this proxy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Network of the node; `""` is the default one.
    pub network: String,
    /// Trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// Its other names.
    pub trust_domain_aliases: Aliases,
    /// Domain of the cluster's services.
    pub cluster_domain: String,
    /// The namespace whose policies may apply to the whole mesh.
    pub root_namespace: Namespace,
    /// Kubernetes node this proxy runs on.
    pub node_name: String,
    /// This proxy's pod.
    pub pod_name: String,
    /// Its namespace.
    pub pod_namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its address.
    pub instance_ip: IpAddr,
    /// What is told to the control plane about this proxy, from `ISTIO_META_*`.
    pub metadata: BTreeMap<String, String>,
}

impl Mesh {
    /// Reads it from an environment.
    pub fn read(reader: &mut Reader) -> Self {
        let metadata = reader.prefixed("ISTIO_META_");
        let cluster_id = reader.value("CLUSTER_ID", "name of the cluster", "Kubernetes".to_owned());
        Self {
            // The chart's name for it wins, as it does in istio/ztunnel.
            cluster_id: metadata.get("CLUSTER_ID").cloned().unwrap_or(cluster_id),
            network: reader.value("NETWORK", "network of the node", String::new()),
            trust_domain: reader.value(
                "TRUST_DOMAIN",
                "trust domain of the mesh",
                TrustDomain::default(),
            ),
            trust_domain_aliases: reader.value(
                "AMBIT_TRUST_DOMAIN_ALIASES",
                "other names of the trust domain: who shows one is believed, and what policies say of one holds for all",
                Aliases::default(),
            ),
            cluster_domain: reader.value(
                "CLUSTER_DOMAIN",
                "domain of the cluster's services",
                "cluster.local".to_owned(),
            ),
            root_namespace: reader.value(
                "AMBIT_ROOT_NAMESPACE",
                "the namespace whose policies may apply to the whole mesh, as control has it",
                Namespace(DEFAULT_ROOT_NAMESPACE.to_owned()),
            ),
            node_name: reader.value("NODE_NAME", "name of the node", String::new()),
            pod_name: reader.value("POD_NAME", "name of this proxy's pod", String::new()),
            pod_namespace: reader.value("POD_NAMESPACE", "its namespace", String::new()),
            service_account: reader.value("SERVICE_ACCOUNT", "its service account", String::new()),
            instance_ip: reader.value(
                "INSTANCE_IP",
                "its address",
                IpAddr::V4(Ipv4Addr::LOCALHOST),
            ),
            metadata,
        }
    }

    /// The names of the trust domain.
    #[must_use]
    pub fn trust_domains(&self) -> TrustDomains {
        TrustDomains::new(self.trust_domain.clone(), self.trust_domain_aliases.clone())
    }
}

/// Discovery and certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// Discovery.
    #[serde(serialize_with = "shown")]
    pub xds_address: Address,
    /// Roots that discovery is verified with.
    pub xds_root_ca: PathBuf,
    /// Sent with discovery requests.
    pub xds_headers: BTreeMap<String, String>,
    /// The certificate authority.
    #[serde(serialize_with = "shown")]
    pub ca_address: Address,
    /// Roots that the authority is verified with.
    pub ca_root_ca: PathBuf,
    /// Sent with certificate requests.
    pub ca_headers: BTreeMap<String, String>,
    /// File of the bearer token.
    pub token: PathBuf,
    /// Lifetime of the certificates that are asked for.
    #[serde(serialize_with = "value::duration")]
    pub secret_ttl: Duration,
    /// File of certificate revocation lists.
    pub revoked: Option<PathBuf>,
    /// Folder of what the control plane has said and signed, for a start while it is gone.
    pub state: Option<PathBuf>,
}

impl ControlPlane {
    /// Reads it from an environment.
    pub fn read(reader: &mut Reader) -> Self {
        let default = match reader.text("KUBERNETES_SERVICE_HOST") {
            Some(_) => "https://istiod.istio-system.svc:15012",
            None => "https://localhost:15012",
        };
        let default: Address = default.parse().expect("the default address is valid");
        let address = |reader: &mut Reader, name, about, alternative| {
            let address = reader.value(name, about, default.clone());
            let about = "name in the server's certificate, when it is not the host's";
            let Some(host) = reader.optional::<String>(alternative, about) else {
                return address;
            };
            match address.clone().with_server_name(&host) {
                Ok(named) => named,
                Err(error) => {
                    reader.refuse(alternative, error.to_string());
                    address
                }
            }
        };
        let xds_address = address(reader, "XDS_ADDRESS", "discovery", "ALT_XDS_HOSTNAME");
        let ca_address = address(reader, "CA_ADDRESS", "the authority", "ALT_CA_HOSTNAME");
        Self {
            xds_address,
            xds_root_ca: roots(
                reader,
                "XDS_ROOT_CA",
                "roots that discovery is verified with",
            ),
            xds_headers: reader.prefixed("XDS_HEADER_"),
            ca_address,
            ca_root_ca: roots(
                reader,
                "CA_ROOT_CA",
                "roots that the authority is verified with",
            ),
            ca_headers: reader.prefixed("CA_HEADER_"),
            token: reader.value("AUTH_TOKEN", "file of the bearer token", TOKEN.into()),
            secret_ttl: reader.value(
                "SECRET_TTL",
                "lifetime of the certificates that are asked for",
                Duration::from_secs(24 * 60 * 60),
            ),
            revoked: reader.optional(
                "CRL_PATH",
                "file of certificate revocation lists (PEM), read again when it changes: who shows a certificate of them is refused",
            ),
            state: reader.optional(
                "AMBIT_STATE_DIR",
                "folder of what the control plane has said and signed, keys included, for a start while it is gone",
            ),
        }
    }
}

fn roots(reader: &mut Reader, name: &'static str, about: &'static str) -> PathBuf {
    let path: PathBuf = reader.value(name, about, ROOT_CA.into());
    let text = path.to_string_lossy();
    if text == "SYSTEM" || text.contains("-----BEGIN") {
        reader.refuse(name, "expected the path of a PEM file".to_owned());
    }
    path
}

fn shown<S: serde::Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}
