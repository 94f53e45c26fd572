//! Whom the control plane's certificate is verified with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::tls;

/// Why the root certificates could not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum TrustError {
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

/// The roots as a PEM file has them now: one at least.
///
/// # Errors
/// It cannot be read, does not parse, or has none.
pub(crate) async fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let pem = tokio::fs::read(path)
        .await
        .map_err(|cause| TrustError::Read {
            path: path.to_owned(),
            cause: Arc::new(cause),
        })?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(path, &error))?;
    if roots.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}

/// A client configuration from the roots as the file has them now, others that are believed as well, and what the client shows.
pub(super) async fn client_config(
    path: &Path,
    others: Vec<CertificateDer<'static>>,
    shown: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, TrustError> {
    let mut store = RootCertStore::empty();
    for root in roots(path).await?.into_iter().chain(others) {
        store.add(root).map_err(|error| bad(path, &error))?;
    }
    tls::plain_client_config(store, shown).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, cause: &dyn std::fmt::Display) -> TrustError {
    TrustError::Pem {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
