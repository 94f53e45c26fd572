//! The roots that this machine trusts.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Where distributions keep them, in one file; `SSL_CERT_FILE` names another.
const FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Reads them.
///
/// # Errors
/// None are found.
pub(super) fn of_machine() -> Result<RootCertStore, String> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let files = named.as_deref().into_iter().chain(FILES);
    for file in files {
        if let Ok(pem) = std::fs::read(file) {
            return parse(&pem).map_err(|error| format!("{file}: {error}"));
        }
    }
    Err("this machine has no file of root certificates; set SSL_CERT_FILE".to_owned())
}

/// Reads PEM. Roots that are no certificates are passed over, as long as there are others.
///
/// # Errors
/// There is none.
pub(super) fn parse(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        // One that cannot be a root is no reason to trust none of the others.
        let _ = roots.add(certificate);
    }
    match roots.is_empty() {
        true => Err("it holds no root certificate".to_owned()),
        false => Ok(roots),
    }
}
