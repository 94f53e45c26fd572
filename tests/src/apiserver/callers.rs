//! Who may ask the lab's kubelets. As kubelets are set up on most clusters: whoever shows a certificate of the API
//! server's authority of clients is the user of its subject, and the API server is asked what that user may do.

use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, crypto};
use x509_parser::parse_x509_certificate;

use super::ApiServer;
use crate::api::{Key, Store};

/// Where an API server says whose certificates it takes of clients.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const AUTHORITY: &str = "client-ca-file";
/// A group of everybody who is known.
const AUTHENTICATED: &str = "system:authenticated";

/// What verifies the certificates of callers, as the API server has it now.
///
/// # Errors
/// When it says no authority, or none that can be read: then nobody is served.
pub(crate) fn verifier(store: &Store) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let map = store.config_maps.get(&Key::new(NAMESPACE, CONFIG_MAP));
    let authority = map.and_then(|it| it.data.as_ref()?.get(AUTHORITY));
    let authority = authority.context("the API server names no authority of clients")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(builder.build()?)
}

/// Who asks, as the API server knows users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    user: String,
    groups: Vec<String>,
}

impl Caller {
    /// The subject of a certificate that was verified: its common name, and its organizations as groups.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization();
        let groups = groups.filter_map(|it| it.as_str().ok().map(str::to_owned));
        Some(Self {
            user,
            groups: groups.chain([AUTHENTICATED.to_owned()]).collect(),
        })
    }
}

impl ApiServer {
    /// Whether a caller may do something on a node by its kubelet: the verb is of `nodes/proxy`. What is not answered
    /// is not allowed.
    pub(crate) async fn allows(&self, caller: &Caller, verb: &str, node: &str) -> bool {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.user.clone()),
                groups: Some(caller.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some("proxy".to_owned()),
                    name: Some(node.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &review).await {
            Ok(answer) => answer.status.is_some_and(|status| status.allowed),
            Err(error) => {
                let error = super::words(&error);
                tracing::warn!(
                    node,
                    error,
                    "the API server does not say what a caller may do"
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(subject: &[(DnType, &str)]) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn a_subject_is_a_user() {
        let made = certificate(&[
            (DnType::CommonName, "kube"),
            (DnType::OrganizationName, "system:masters"),
        ]);
        let caller = Caller {
            user: "kube".to_owned(),
            groups: vec!["system:masters".to_owned(), AUTHENTICATED.to_owned()],
        };
        assert_eq!(Caller::of(made.der()), Some(caller));
        let nobody = certificate(&[(DnType::OrganizationName, "system:masters")]);
        assert_eq!(Caller::of(nobody.der()), None, "groups alone are nobody");
    }

    #[test]
    fn without_an_authority_nobody_is_served() {
        let mut store = Store::default();
        assert!(verifier(&store).is_err());
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some(NAMESPACE.to_owned());
        map.metadata.name = Some(CONFIG_MAP.to_owned());
        for (authority, good) in [
            (certificate(&[(DnType::CommonName, "a")]).pem(), true),
            ("nothing".to_owned(), false),
        ] {
            map.data = Some([(AUTHORITY.to_owned(), authority)].into());
            store.config_maps.put(map.clone());
            assert_eq!(verifier(&store).is_ok(), good);
        }
    }
}
