//! The certificate of the xDS and CA port: signed by the mesh's own authority and renewed in time, or read from the
//! files of somebody else who renews it (a mounted Secret of type `kubernetes.io/tls`, as cert-manager writes it).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_core::clock::Jump;
use ambit_net::clock::Jumps;
use arc_swap::ArcSwap;
use rcgen::KeyPair;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::time::Instant;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use crate::ca::{Authority, Signing};

/// The life of a certificate that is signed here.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// After the authority could not sign.
const RETRY: Duration = Duration::from_secs(60);
/// How often files are looked at: a mounted Secret changes within a minute of its object anyway.
const LOOK: Duration = Duration::from_secs(5);
/// The names of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Where the certificate comes from.
#[derive(Debug)]
pub enum Origin {
    /// The mesh's authority signs it.
    Signed {
        /// Who signs.
        authority: Signing,
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// Somebody else keeps it in files.
    Kept {
        /// The folder of `tls.crt` (the leaf first) and `tls.key`, PEM.
        folder: PathBuf,
        /// Names by which proxies ask: the certificate has to be for all of them.
        names: Vec<String>,
    },
}

/// The server's certificate, newest first and only.
#[derive(Debug)]
pub struct ServerCertificate {
    origin: Origin,
    /// What the files held at first, where there are files.
    first: Option<Files>,
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertificate {
    /// A first certificate.
    ///
    /// # Errors
    /// A name that is none, the authority cannot sign; or which file is wrong, and how.
    pub fn new(origin: Origin) -> Result<Self, String> {
        let (first, current) = match &origin {
            Origin::Signed { authority, names } => {
                let now = authority.borrow().clone();
                (None, issue(&now, names)?)
            }
            Origin::Kept { folder, names } => {
                let files = read(folder)?;
                let kept = certified(&files, names)
                    .map_err(|error| format!("{}: {error}", folder.display()))?;
                (Some(files), kept)
            }
        };
        Ok(Self {
            origin,
            first,
            current: ArcSwap::from_pointee(current),
        })
    }

    /// Keeps the certificate fresh: for as long as the authority is there, or for ever.
    pub async fn keep_fresh(self: Arc<Self>) {
        match &self.origin {
            Origin::Signed { authority, names } => self.renew(authority.clone(), names).await,
            Origin::Kept { folder, names } => self.follow(folder, names).await,
        }
    }

    /// Renews at half life, and when the authority is another one; until there is no authority. A clock that was set forward
    /// brings that nearer: it may be wrong, and what is signed by it good for nobody yet. What was signed before one that was set
    /// back may be good for nobody, and is signed anew at once.
    async fn renew(&self, mut changed: Signing, names: &[String]) {
        let mut due = Instant::now() + LIFETIME / 2;
        let mut jumps = Jumps::new(Arc::new(SystemTime::now));
        loop {
            tokio::select! {
                kept = changed.changed() => if kept.is_err() { return },
                jump = jumps.next() => {
                    tracing::warn!("the clock of this machine was set {jump}: the server certificate is renewed by it");
                    if let Jump::Forward(by) = jump
                        && let Some(earlier) = due.checked_sub(by).filter(|at| *at > Instant::now())
                    {
                        due = earlier;
                        continue;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            let authority = changed.borrow_and_update().clone();
            let wait = match issue(&authority, names) {
                Ok(certified) => {
                    self.current.store(Arc::new(certified));
                    LIFETIME / 2
                }
                Err(error) => {
                    tracing::error!(%error, "the server certificate was not renewed");
                    RETRY
                }
            };
            due = Instant::now() + wait;
        }
    }

    /// Takes up what the files hold; what does not hold together is reported once, and the certificate stays. One that
    /// nobody has renewed in time is reported as well.
    async fn follow(&self, folder: &Path, names: &[String]) {
        let mut looked = self.first.clone().ok_or_else(String::new);
        let mut reported = false;
        loop {
            tokio::time::sleep(LOOK).await;
            let found = read(folder);
            if found != looked {
                looked = found;
                reported = false;
                self.take_up(folder, looked.as_ref(), names);
            }
            if !reported && let Err(error) = check_dates(&self.current.load().cert[0]) {
                tracing::error!(folder = %folder.display(), %error, "no proxy believes the server certificate");
                reported = true;
            }
        }
    }

    fn take_up(&self, folder: &Path, found: Result<&Files, &String>, names: &[String]) {
        let folder = folder.display();
        match found
            .map_err(Clone::clone)
            .and_then(|files| certified(files, names))
        {
            Ok(certified) => {
                self.current.store(Arc::new(certified));
                tracing::info!(%folder, "read the server certificate again");
            }
            Err(error) => {
                tracing::error!(%folder, %error, "kept the server certificate as it was");
            }
        }
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn issue(authority: &Authority, names: &[String]) -> Result<CertifiedKey, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let chain = authority.sign_server(&key, names, LIFETIME, SystemTime::now())?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(chain, key))
}

/// What the files hold, PEM.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

fn read(folder: &Path) -> Result<Files, String> {
    let bytes = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(Files {
        certificate: bytes(CERTIFICATE)?,
        key: bytes(KEY)?,
    })
}

/// Whether a certificate is good now.
fn check_dates(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let (_, parsed) =
        parse_x509_certificate(certificate).map_err(|error| format!("{CERTIFICATE}: {error}"))?;
    let validity = parsed.validity();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let is_past =
        |time: &ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default() <= now.as_secs();
    if is_past(&validity.not_after) {
        return Err(format!("{CERTIFICATE} expired at {}", validity.not_after));
    }
    if !is_past(&validity.not_before) {
        return Err(format!(
            "{CERTIFICATE} is good from {} on",
            validity.not_before
        ));
    }
    Ok(())
}

/// The files as a certificate: of one key, for these names, and not expired.
fn certified(files: &Files, names: &[String]) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{CERTIFICATE}: {error}"))?;
    let leaf = chain
        .first()
        .ok_or_else(|| format!("{CERTIFICATE} holds no certificate"))?;
    let of_leaf = |error: &dyn std::fmt::Display| format!("{CERTIFICATE}: {error}");
    check_dates(leaf)?;
    let named = ParsedCertificate::try_from(leaf).map_err(|error| of_leaf(&error))?;
    for name in names {
        let server = ServerName::try_from(name.as_str()).map_err(|error| error.to_string())?;
        verify_server_name(&named, &server).map_err(|_| {
            format!("{CERTIFICATE} is not for {name}, by which proxies ask: add it to the Certificate's dnsNames")
        })?;
    }
    let key =
        PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| format!("{KEY}: {error}"))?;
    let key =
        aws_lc_rs::sign::any_supported_type(&key).map_err(|error| format!("{KEY}: {error}"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(_) => Err(format!("{KEY} is not the key of {CERTIFICATE}")),
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
