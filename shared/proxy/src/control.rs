//! How a proxy reaches its control plane.

use std::sync::Arc;

use ambit_net::ca::{self, CaClient, CaConfig, CertificateStore, Kept};
use ambit_net::grpc::{Machine, Remote};
use ambit_net::revocation::{self, Revocations};

use crate::config::{ControlPlane, Mesh};

/// Whose certificates a proxy asks for.
#[derive(Debug, Clone)]
pub enum Whose {
    /// Those of its node's pods.
    Pods,
    /// Its own alone, which its token names as well.
    Own,
    /// That of the machine it runs on, which has no kubelet that renews its token.
    Machine(Arc<Machine>),
}

impl Whose {
    fn machine(&self) -> Option<&Arc<Machine>> {
        match self {
            Self::Machine(machine) => Some(machine),
            Self::Pods | Self::Own => None,
        }
    }
}

impl ControlPlane {
    /// Where and how discovery is asked.
    #[must_use]
    pub fn discovery(&self, cluster_id: &str, whose: &Whose) -> Remote {
        Remote {
            machine: whose.machine().cloned(),
            token: Some(self.token.clone()),
            cluster_id: cluster_id.to_owned(),
            headers: self.xds_headers.clone().into_iter().collect(),
            ..Remote::new(self.xds_address.clone(), &self.xds_root_ca)
        }
    }

    /// The certificates of peers that are not believed any longer, as a file has them. A task of its own follows
    /// the file. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// There is a file and it cannot be read.
    pub async fn revocations(&self) -> Result<Revocations, String> {
        let Some(path) = &self.revoked else {
            return Ok(Revocations::default());
        };
        let (revocations, following) = revocation::follow(path.clone()).await?;
        tokio::spawn(following);
        Ok(revocations)
    }

    /// A store that obtains certificates from the authority while its driver runs.
    #[must_use]
    pub fn certificates(
        &self,
        mesh: &Mesh,
        whose: &Whose,
        revocations: Revocations,
    ) -> (CertificateStore, ca::Driver<Kept<CaClient>>) {
        let remote = Remote {
            machine: whose.machine().cloned(),
            token: Some(self.token.clone()),
            cluster_id: mesh.cluster_id.clone(),
            headers: self.ca_headers.clone().into_iter().collect(),
            ..Remote::new(self.ca_address.clone(), &self.ca_root_ca)
        };
        let client = CaClient::new(CaConfig {
            lifetime: self.secret_ttl,
            impersonate: self.tells_whose(whose),
            ..CaConfig::new(remote)
        });
        let kept = Kept::new(client, self.state.as_deref());
        if let Some(machine) = whose.machine()
            && let Some((certified, since)) = kept.last(machine.identity())
        {
            machine.hold(&certified, since);
        }
        let settings = ca::Settings {
            trust_domains: mesh.trust_domains(),
            revocations,
            ..ca::Settings::default()
        };
        CertificateStore::new(kept, settings)
    }

    /// Has certificates renewed when the file of the authority's roots has others. A task of its own follows the file. Must be
    /// called inside a tokio runtime.
    pub fn renew_with_roots(&self, certificates: &CertificateStore) {
        if self.ca_address.is_verified() {
            let path = self.ca_root_ca.clone();
            tokio::spawn(ca::follow_roots(path, certificates.clone()));
        }
    }

    /// Whether the authority is told who a certificate is for. It has to be for pods. The control plane is told by
    /// whoever asks: it may have another name for the trust domain. Another authority takes one's own from the token,
    /// and refuses who names it and is no node proxy (cert-manager's istio-csr).
    fn tells_whose(&self, whose: &Whose) -> bool {
        matches!(whose, Whose::Pods) || self.ca_address == self.xds_address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reader;

    #[test]
    fn another_authority_is_not_told_what_the_token_says() {
        let (control, other) = ("https://control:15012", "https://csr:443");
        for (authority, whose, told) in [
            (control, Whose::Pods, true),
            (control, Whose::Own, true),
            (other, Whose::Pods, true),
            (other, Whose::Own, false),
        ] {
            let variables = [("XDS_ADDRESS", control), ("CA_ADDRESS", authority)];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut reader = Reader::new(variables.into());
            let place = ControlPlane::read(&mut reader);
            assert_eq!(place.tells_whose(&whose), told, "{authority} {whose:?}");
        }
    }
}
