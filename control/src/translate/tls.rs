//! BackendTLSPolicy: TLS to the application itself. A policy that cannot be honoured refuses; plain
//! text is never what comes of it.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::model::{BackendTls, Resource};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use super::reference::port_named;
use super::route::created;
use super::status::{CONTROLLER, fails, holds};
use super::traffic::is_service;
use super::view::{Outcome, View};
use crate::source::gateway::{BackendTLSPolicy, LocalRef, SubjectAltName};
use crate::source::parse::CA_CERTIFICATES;

/// How TLS is spoken to a Service: for all its ports, and for those with a policy of their own. The
/// oldest policy for a port counts.
#[must_use]
pub fn of_service(
    namespace: &str,
    name: &str,
    service: &Service,
    view: &View<'_>,
) -> Vec<Resource> {
    let mut policies: Vec<_> = view.within::<BackendTLSPolicy>(namespace).collect();
    policies.sort_by_key(|(name, policy)| (created(&policy.metadata), (*name).clone()));
    let mut found: Vec<BackendTls> = Vec::new();
    for (policy_name, policy) in policies {
        for target in &policy.spec.target_refs {
            if !is_service(target) || target.name != name {
                continue;
            }
            let port = match target.section_name.as_deref() {
                None | Some("") => None,
                Some(section) => match port_named(service, section) {
                    Some(port) => Some(port),
                    None => continue,
                },
            };
            if found.iter().any(|other| other.port == port) {
                continue;
            }
            let key = match port {
                None => name.to_owned(),
                Some(port) => format!("{name}:{port}"),
            };
            let (roots, invalid) = match roots(namespace, policy, view) {
                Ok(roots) => (roots, None),
                Err((_, why)) => {
                    let why = format!("BackendTLSPolicy {namespace}/{policy_name}: {why}");
                    (None, Some(why.into()))
                }
            };
            let names = subject_alt_names(&policy.spec.validation.subject_alt_names);
            let (subject_alt_names, invalid) = match names {
                Ok(names) => (names, invalid),
                Err(why) => (Vec::new(), invalid.or(Some(why.into()))),
            };
            let hostname = policy.spec.validation.hostname.as_str();
            let invalid = match hostname {
                "" => invalid.or(Some("spec.validation.hostname is missing".into())),
                _ => invalid,
            };
            found.push(BackendTls {
                key: NamespacedName::new(namespace, key),
                service: view.service_key(namespace, name),
                port,
                hostname: if hostname.is_empty() { "-" } else { hostname }.into(),
                subject_alt_names,
                roots,
                invalid,
            });
        }
    }
    let resources = found.into_iter().map(|tls| Resource::Tls(Arc::new(tls)));
    resources.collect()
}

/// The status of a policy.
#[must_use]
pub fn policy(namespace: &str, policy: &BackendTLSPolicy, view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let metadata = &policy.metadata;
    if !policy.spec.options.is_empty() {
        outcome
            .notices
            .push("spec.options have no effect".to_owned());
    }
    let roots = roots(namespace, policy, view);
    let names = subject_alt_names(&policy.spec.validation.subject_alt_names);
    let mut ancestors = Vec::new();
    for target in &policy.spec.target_refs {
        let service = view.find::<Service>(namespace, &target.name);
        let accepted = match (service, target.section_name.as_deref(), &roots, &names) {
            _ if !is_service(target) => Err((
                "TargetNotFound",
                format!("{} is not a Service", target.name),
            )),
            (None, ..) => {
                let what = format!("Service {namespace}/{} does not exist", target.name);
                Err(("TargetNotFound", what))
            }
            (Some(service), Some(section), ..)
                if !section.is_empty() && port_named(service, section).is_none() =>
            {
                let what = format!(
                    "Service {namespace}/{} has no TCP port {section:?}",
                    target.name
                );
                Err(("TargetNotFound", what))
            }
            (.., Err((_, why)), _) => Err(("NoValidCACertificate", why.clone())),
            (.., Err(why)) => Err(("Invalid", why.clone())),
            _ => Ok(()),
        };
        let mut conditions = vec![match accepted {
            Ok(()) => holds(metadata, "Accepted", "Accepted", "the policy is in force"),
            Err((reason, message)) => {
                outcome.problems.push(message.clone());
                fails(metadata, "Accepted", reason, &message)
            }
        }];
        conditions.push(match &roots {
            Ok(_) => holds(
                metadata,
                "ResolvedRefs",
                "ResolvedRefs",
                "all references are good",
            ),
            Err((reason, why)) => fails(metadata, "ResolvedRefs", reason, why),
        });
        ancestors.push(json!({
            "ancestorRef": {"group": "", "kind": "Service", "namespace": namespace, "name": target.name},
            "controllerName": CONTROLLER,
            "conditions": conditions,
        }));
    }
    outcome.problems.dedup();
    outcome.status = Some(json!({ "ancestors": ancestors }));
    outcome
}

/// PEM; `None` for the machine's own roots.
fn roots(
    namespace: &str,
    policy: &BackendTLSPolicy,
    view: &View<'_>,
) -> Result<Option<Arc<str>>, (&'static str, String)> {
    let validation = &policy.spec.validation;
    match (
        validation.ca_certificate_refs.as_slice(),
        validation.well_known_ca_certificates.as_deref(),
    ) {
        ([], Some("System")) => Ok(None),
        ([], None) => Err((
            "InvalidCACertificateRef",
            "spec.validation names no certificates".to_owned(),
        )),
        ([], Some(other)) => Err((
            "InvalidCACertificateRef",
            format!("spec.validation.wellKnownCACertificates: {other:?} is not System"),
        )),
        (_, Some(_)) => Err((
            "InvalidCACertificateRef",
            "spec.validation: caCertificateRefs and wellKnownCACertificates exclude each other"
                .to_owned(),
        )),
        (references, None) => {
            let mut pem = String::new();
            for reference in references {
                pem.push_str(&certificates(namespace, reference, view)?);
                pem.push('\n');
            }
            Ok(Some(pem.into()))
        }
    }
}

fn certificates(
    namespace: &str,
    reference: &LocalRef,
    view: &View<'_>,
) -> Result<String, (&'static str, String)> {
    let name = reference.name.as_str();
    let kind = reference.kind.as_str();
    let text = match (reference.group.as_str(), kind) {
        ("" | "core", "ConfigMap") => view
            .find::<ConfigMap>(namespace, name)
            .and_then(|found| found.data.as_ref()?.get(CA_CERTIFICATES).cloned()),
        ("" | "core", "Secret") => view.find::<Secret>(namespace, name).and_then(|found| {
            let plain = found
                .string_data
                .as_ref()
                .and_then(|data| data.get(CA_CERTIFICATES));
            let encoded = found
                .data
                .as_ref()
                .and_then(|data| data.get(CA_CERTIFICATES));
            plain
                .cloned()
                .or_else(|| String::from_utf8(encoded?.0.clone()).ok())
        }),
        (group, kind) => {
            let why =
                format!("certificates are in a ConfigMap or Secret, not in {kind} of {group:?}");
            return Err(("InvalidKind", why));
        }
    };
    let Some(text) = text else {
        let why = format!("{kind} {namespace}/{name} with {CA_CERTIFICATES} does not exist");
        return Err(("InvalidCACertificateRef", why));
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    if read.is_ok_and(|found| !found.is_empty()) {
        Ok(text)
    } else {
        let why =
            format!("{CA_CERTIFICATES} of {kind} {namespace}/{name} holds no PEM certificate");
        Err(("InvalidCACertificateRef", why))
    }
}

fn subject_alt_names(names: &[SubjectAltName]) -> Result<Vec<Arc<str>>, String> {
    let names = names.iter().map(|name| {
        let found = match name.r#type.as_str() {
            "Hostname" => name.hostname.as_deref(),
            "URI" => name.uri.as_deref(),
            _ => None,
        };
        found
            .filter(|text| !text.is_empty())
            .map(Arc::from)
            .ok_or_else(|| "spec.validation.subjectAltNames: one names nothing".to_owned())
    });
    names.collect()
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
