//! How a proxy reaches its control plane.

use ambit_net::ca::{self, CaClient, CaConfig, CertificateStore, Kept};
use ambit_net::grpc::Remote;

use crate::config::{ControlPlane, Mesh};

impl ControlPlane {
    /// Where and how discovery is asked.
    #[must_use]
    pub fn discovery(&self, cluster_id: &str) -> Remote {
        Remote {
            token: Some(self.token.clone()),
            cluster_id: cluster_id.to_owned(),
            headers: self.xds_headers.clone().into_iter().collect(),
            ..Remote::new(self.xds_address.clone(), &self.xds_root_ca)
        }
    }

    /// A store that obtains certificates from the authority while its driver runs.
    #[must_use]
    pub fn certificates(&self, mesh: &Mesh) -> (CertificateStore, ca::Driver<Kept<CaClient>>) {
        let remote = Remote {
            token: Some(self.token.clone()),
            cluster_id: mesh.cluster_id.clone(),
            headers: self.ca_headers.clone().into_iter().collect(),
            ..Remote::new(self.ca_address.clone(), &self.ca_root_ca)
        };
        let client = CaClient::new(CaConfig {
            lifetime: self.secret_ttl,
            ..CaConfig::new(remote)
        });
        let kept = Kept::new(client, self.state.as_deref());
        let settings = ca::Settings {
            trust_domains: mesh.trust_domains(),
            ..ca::Settings::default()
        };
        CertificateStore::new(kept, settings)
    }
}
