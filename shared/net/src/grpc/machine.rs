//! A machine without a kubelet, as the control plane comes to know it: by a token that somebody has put there, and once it has a
//! certificate by that, so that the token may be short-lived.
//!
//! A token that was written after the certificate was signed goes first: whoever wrote it wants it used. What is refused makes way for
//! the other of the two on the next connection, until it is replaced: neither hides the other for ever.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use ambit_core::identity::Identity;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpStream, lookup_host};

use crate::sys::Sockets;
use crate::tls::Certified;

/// A machine and what it can show.
pub struct Machine {
    /// The name of its WorkloadEntry.
    entry: String,
    identity: Identity,
    /// Its own traffic is captured, and what the proxy itself sends is known by its mark.
    sockets: Sockets,
    held: ArcSwapOption<Held>,
    /// What was refused last.
    refused: Mutex<Option<Proof>>,
}

/// What proves a machine, and of when it is: a later one is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// A token, and when it was written.
    Token(SystemTime),
    /// A certificate, and when it was signed.
    Certificate(SystemTime),
}

/// A certificate of it.
struct Held {
    key: Arc<CertifiedKey>,
    /// Those that it came with.
    roots: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
    /// When it was signed, by the clock of here.
    since: SystemTime,
}

/// What is shown on a connection.
pub(super) struct Shown {
    pub(super) proof: Proof,
    /// In the handshake. Without it the token of the file is, as everybody shows it.
    pub(super) certificate: Option<Arc<CertifiedKey>>,
}

impl Machine {
    /// The machine of a WorkloadEntry, which has shown nothing yet. Its sockets have the mark.
    #[must_use]
    pub fn new(entry: &str, identity: Identity, mark: u32) -> Self {
        Self {
            entry: entry.to_owned(),
            identity,
            sockets: Sockets {
                netns: None,
                mark: Some(mark),
            },
            held: ArcSwapOption::empty(),
            refused: Mutex::new(None),
        }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The name of its WorkloadEntry.
    pub(crate) fn entry(&self) -> &str {
        &self.entry
    }

    /// Shows this certificate from now on, which was signed at `since`.
    pub fn hold(&self, certified: &Certified, since: SystemTime) {
        self.held.store(Some(Arc::new(Held {
            key: certified.key(),
            roots: certified.roots().to_vec(),
            not_after: certified.not_after(),
            since,
        })));
    }

    /// The roots that its certificate came with, which it believes its peers by, however old that is. Nobody brings it a file of
    /// others when the mesh changes its root.
    pub(super) fn roots(&self) -> Vec<CertificateDer<'static>> {
        let held = self.held.load();
        held.as_ref()
            .map(|held| held.roots.clone())
            .unwrap_or_default()
    }

    /// What to show now.
    ///
    /// # Errors
    /// There is nothing: what to do about it.
    pub(super) async fn shown(&self, path: Option<&Path>) -> Result<Shown, Nothing> {
        let written = match path {
            Some(path) => tokio::fs::metadata(path).await,
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let written = written.and_then(|file| file.modified()).ok();
        let (held, now) = (self.held.load_full(), SystemTime::now());
        let good = held.as_ref().filter(|it| it.not_after > now);
        let certificate = good.map(|held| Shown {
            proof: Proof::Certificate(held.since),
            certificate: Some(held.key.clone()),
        });
        let token = written.map(|written| Shown {
            proof: Proof::Token(written),
            certificate: None,
        });
        let refused = *self.refused.lock();
        let is_refused = |shown: &Shown| refused == Some(shown.proof);
        match (certificate, token) {
            (Some(certificate), Some(token)) => {
                let is_newer = good.is_some_and(|held| written <= Some(held.since));
                let (first, second) = match is_newer {
                    true => (certificate, token),
                    false => (token, certificate),
                };
                Ok(if is_refused(&first) { second } else { first })
            }
            (Some(only), None) | (None, Some(only)) => Ok(only),
            (None, None) => Err(Nothing {
                expired: held.map(|held| now.duration_since(held.not_after).unwrap_or_default()),
                advice: self.advice(path),
            }),
        }
    }

    /// Shows the other one the next time, if there is one.
    pub(super) fn refused(&self, proof: Proof) {
        *self.refused.lock() = Some(proof);
    }

    /// What helps when nothing that it shows is accepted.
    pub(super) fn advice(&self, token: Option<&Path>) -> Advice {
        Advice {
            namespace: self.identity.namespace().to_string(),
            account: self.identity.service_account().to_string(),
            file: token.map(Path::to_owned).unwrap_or_default(),
        }
    }

    /// Connects to a host of that name or address.
    pub(super) async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        for address in addresses {
            match self.sockets.connect(address, None).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("entry", &self.entry)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A machine has neither a certificate nor a token.
#[derive(Debug, thiserror::Error)]
#[error("this machine has {}, and no token: {advice}", certificate(*.expired))]
pub(super) struct Nothing {
    /// For how long its certificate is of no use any more.
    expired: Option<Duration>,
    advice: Advice,
}

fn certificate(expired: Option<Duration>) -> String {
    match expired {
        Some(ago) => format!("a certificate that expired {} seconds ago", ago.as_secs()),
        None => "no certificate".to_owned(),
    }
}

/// How to get a token.
#[derive(Debug, thiserror::Error)]
#[error(
    "write a new token to {} (kubectl create token {account} --namespace {namespace} --audience istio-ca, or ambit machine)",
    .file.display()
)]
pub(super) struct Advice {
    namespace: String,
    account: String,
    file: PathBuf,
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::super::testing::Authority;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const ID: &str = "spiffe://cluster.local/ns/shop/sa/vm";

    /// A certificate that is good until then.
    fn certified(until: SystemTime) -> Certified {
        let authority = Authority::new();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(ID.try_into().expect("a URI"))];
        params.not_after = until.into();
        let leaf = params.signed_by(&key, authority.issuer()).expect("signed");
        let chain = [leaf.pem(), authority.root_pem()];
        Certified::from_pem(&chain, &key.serialize_pem()).expect("a certificate")
    }

    #[tokio::test]
    async fn what_is_newer_is_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        let machine = Machine::new("vm-1", ID.parse().expect("an identity"), 0);
        let shown = async || {
            let shown = machine.shown(Some(&token)).await;
            shown.map(|shown| shown.certificate.is_some())
        };
        let nothing = shown().await.expect_err("nothing to show").to_string();
        let advice = format!(
            "write a new token to {} (kubectl create token vm --namespace shop --audience istio-ca, or ambit machine)",
            token.display()
        );
        assert_eq!(
            nothing,
            format!("this machine has no certificate, and no token: {advice}")
        );
        std::fs::write(&token, "token").expect("written");
        assert!(!shown().await.expect("the token"));
        let now = SystemTime::now();
        machine.hold(&certified(now + HOUR), now + HOUR);
        assert!(shown().await.expect("the certificate"), "it is newer");
        machine.hold(&certified(now + HOUR), now - HOUR);
        assert!(!shown().await.expect("the token"), "it is newer");
        std::fs::remove_file(&token).expect("removed");
        assert!(shown().await.expect("the certificate"), "there is no other");
        machine.hold(&certified(now - HOUR), now - HOUR);
        let nothing = shown().await.expect_err("nothing to show").to_string();
        assert!(
            nothing.contains("expired 3600 seconds ago, and no token: write"),
            "{nothing}"
        );
        std::fs::write(&token, "token").expect("written");
        assert!(!shown().await.expect("the token"));
    }

    #[tokio::test]
    async fn what_is_refused_makes_way_for_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        let machine = Machine::new("vm-1", ID.parse().expect("an identity"), 0);
        let shown = async || machine.shown(Some(&token)).await.expect("something").proof;
        let now = SystemTime::now();
        std::fs::write(&token, "token").expect("written");
        let written = shown().await;
        assert!(matches!(written, Proof::Token(_)));
        machine.refused(written);
        assert_eq!(shown().await, written, "there is no other");
        // A token that is newer than a good certificate, and does not hold.
        machine.hold(&certified(now + HOUR), now - HOUR);
        let certificate = Proof::Certificate(now - HOUR);
        assert_eq!(shown().await, certificate);
        assert_eq!(shown().await, certificate, "as long as it is accepted");
        // A certificate that proves nothing, beside a good token.
        machine.refused(certificate);
        assert_eq!(shown().await, written);
        machine.hold(&certified(now + HOUR), now + HOUR);
        let certificate = Proof::Certificate(now + HOUR);
        assert_eq!(shown().await, certificate, "it is another one");
        machine.refused(certificate);
        assert_eq!(shown().await, written);
        std::fs::remove_file(&token).expect("removed");
        assert_eq!(shown().await, certificate, "there is no other");
    }
}
