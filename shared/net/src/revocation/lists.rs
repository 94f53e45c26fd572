//! The lists of one file, and who is on them.

use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::Revoked;

/// Bytes of a file that are read at most: no ConfigMap or Secret has more.
pub const LONGEST: usize = 1 << 20;

/// Certificate revocation lists.
#[derive(Debug, Default)]
pub struct Lists(Vec<List>);

#[derive(Debug)]
struct List {
    /// Checked in all of its parts, with its serial numbers in order.
    revoked: CertRevocationList<'static>,
    /// As it was signed.
    der: CertificateRevocationListDer<'static>,
    issuer: String,
    /// When its issuer meant to have written another one.
    next_update: Option<SystemTime>,
}

impl Lists {
    /// Reads PEM, one block `X509 CRL` a list. Nothing but space is no list.
    ///
    /// # Errors
    /// What is wrong, and with which list.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        if pem.len() > LONGEST {
            return Err(format!("it is larger than {LONGEST} bytes"));
        }
        let mut lists = Vec::new();
        for der in CertificateRevocationListDer::pem_slice_iter(pem) {
            let number = lists.len() + 1;
            let wrong = |error: String| format!("list {number}: {error}");
            let der = der.map_err(|error| wrong(error.to_string()))?;
            lists.push(List::parse(der).map_err(wrong)?);
        }
        if lists.is_empty() && !pem.iter().all(u8::is_ascii_whitespace) {
            return Err("it holds no block X509 CRL, and is not empty".to_owned());
        }
        Ok(Self(lists))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is none: nobody is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first certificate of a chain that is revoked. `issuers` are certificates, besides those of the chain,
    /// that may have signed some of it. The chain was verified: what signs nothing in it is of no use to who shows it.
    #[must_use]
    pub fn find(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        issuers: &[CertificateDer<'_>],
    ) -> Option<Revoked> {
        if self.is_empty() {
            return None;
        }
        let mut shown = std::iter::once(leaf).chain(intermediates);
        let signing = || intermediates.iter().chain(issuers);
        shown.find_map(|certificate| {
            // The verifier read it in the same way.
            let read = EndEntityCert::try_from(certificate).ok()?;
            let mut naming = self.0.iter().filter(|list| list.names(&read));
            let listed = naming.any(|list| list.is_of(signing()));
            listed.then(|| described(certificate))
        })
    }

    /// Who is said to have written a list that none of these has signed.
    #[must_use]
    pub fn of_a_stranger(&self, issuers: &[CertificateDer<'_>]) -> Option<&str> {
        let foreign = |list: &&List| !list.is_of(issuers.iter());
        self.0.iter().find(foreign).map(|list| &*list.issuer)
    }

    /// Whose list is out of date.
    #[must_use]
    pub fn overdue(&self, now: SystemTime) -> Option<&str> {
        let passed = |list: &&List| list.next_update.is_some_and(|at| at <= now);
        self.0.iter().find(passed).map(|list| &*list.issuer)
    }
}

impl List {
    fn parse(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let owned = OwnedCertRevocationList::from_der(&der).map_err(|error| error.to_string())?;
        let (_, parsed) =
            CertificateRevocationList::from_der(&der).map_err(|error| error.to_string())?;
        let issuer = parsed.issuer().to_string();
        let next_update = parsed.next_update();
        let since_epoch = |at: i64| Duration::from_secs(at.try_into().unwrap_or(0));
        let next_update =
            next_update.map(|at| SystemTime::UNIX_EPOCH + since_epoch(at.timestamp()));
        Ok(Self {
            revoked: owned.into(),
            issuer,
            next_update,
            der,
        })
    }

    /// Whether a certificate of this name and number is on it.
    fn names(&self, certificate: &EndEntityCert<'_>) -> bool {
        let listed = || self.revoked.find_serial(certificate.serial());
        self.revoked.issuer() == certificate.issuer() && matches!(listed(), Ok(Some(_)))
    }

    /// Whether one of these has signed it. Two authorities may have the same name, an old root and the new one, say.
    fn is_of<'a>(&self, mut issuers: impl Iterator<Item = &'a CertificateDer<'a>>) -> bool {
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else {
            return false;
        };
        issuers.any(|certificate| {
            X509Certificate::from_der(certificate).is_ok_and(|(_, issuer)| {
                issuer.subject().as_raw() == list.issuer().as_raw()
                    && list.verify_signature(issuer.public_key()).is_ok()
            })
        })
    }
}

fn described(certificate: &CertificateDer<'_>) -> Revoked {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => Revoked {
            serial: certificate.serial.to_string(),
            issuer: certificate.issuer().to_string(),
        },
        Err(_) => Revoked {
            serial: "?".to_owned(),
            issuer: "?".to_owned(),
        },
    }
}
