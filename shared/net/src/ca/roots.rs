//! Has certificates renewed when the file of roots has others: certificates come with the roots that their holder trusts, and
//! should come with those of now.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::CertificateStore;
use crate::grpc::{TrustError, roots};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(5);

type Roots = HashSet<CertificateDer<'static>>;

/// Follows the PEM file of the roots that whoever signs is verified with. What does not read is reported, and renews nothing.
pub async fn follow_roots(path: PathBuf, store: CertificateStore) -> Infallible {
    let mut known = Known::default();
    loop {
        let found = roots(&path).await;
        match known.take(found.map(Roots::from_iter)) {
            News::None => {}
            News::Others(count) => {
                let path = path.display();
                tracing::info!(%path, roots = count, "the root certificates are others: all certificates are renewed");
                store.renew_all();
            }
            News::Wrong(error) => {
                tracing::error!(%error, "certificates stay as they are, with their roots");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was found before.
#[derive(Debug, Default)]
struct Known {
    roots: Option<Roots>,
    error: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    /// So many roots, and not those of before.
    Others(usize),
    /// What is wrong, said once.
    Wrong(String),
}

impl Known {
    fn take(&mut self, found: Result<Roots, TrustError>) -> News {
        let roots = match found {
            Ok(roots) => roots,
            Err(error) => {
                let error = error.to_string();
                let said = self.error.replace(error.clone());
                return match said.as_ref() == Some(&error) {
                    true => News::None,
                    false => News::Wrong(error),
                };
            }
        };
        self.error = None;
        let count = roots.len();
        match self.roots.replace(roots) {
            Some(before) if Some(&before) != self.roots.as_ref() => News::Others(count),
            _ => News::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn some(names: &[u8]) -> Result<Roots, TrustError> {
        Ok(names.iter().map(|it| vec![*it].into()).collect())
    }

    async fn gone(path: &str) -> Result<Roots, TrustError> {
        roots(Path::new(path)).await.map(Roots::from_iter)
    }

    #[tokio::test]
    async fn other_roots_renew_and_what_is_wrong_is_said_once() {
        let mut known = Known::default();
        assert_eq!(known.take(some(&[1])), News::None, "the first ones");
        assert_eq!(known.take(some(&[1, 2])), News::Others(2));
        assert_eq!(known.take(some(&[2, 1])), News::None, "the same ones");
        let News::Wrong(error) = known.take(gone("/does/not/exist").await) else {
            panic!("there is no such file");
        };
        assert!(error.contains("/does/not/exist"), "{error}");
        assert_eq!(known.take(gone("/does/not/exist").await), News::None);
        assert_eq!(known.take(some(&[1, 2])), News::None, "as they were");
        assert_eq!(known.take(some(&[2])), News::Others(1));
        assert_ne!(known.take(gone("/does/not/exist").await), News::None);
    }
}
