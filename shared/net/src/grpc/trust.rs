//! Whom the control plane's certificate is verified with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::tls;

/// Why the root certificates could not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum TrustError {
    #[error("cannot read the root certificates {path}: {cause}")]
    Read {
        path: PathBuf,
        cause: Arc<std::io::Error>,
    },
    #[error("the root certificates {path} do not parse: {cause}")]
    Pem { path: PathBuf, cause: String },
    #[error("the file of root certificates {path} holds no certificate")]
    Empty { path: PathBuf },
}

/// A client configuration from the roots as the file has them now.
pub(super) async fn client_config(path: &Path) -> Result<Arc<ClientConfig>, TrustError> {
    let pem = tokio::fs::read(path)
        .await
        .map_err(|cause| TrustError::Read {
            path: path.to_owned(),
            cause: Arc::new(cause),
        })?;
    let bad = |cause: String| TrustError::Pem {
        path: path.to_owned(),
        cause,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        roots.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
        });
    }
    tls::plain_client_config(roots).map_err(|e| bad(e.to_string()))
}
