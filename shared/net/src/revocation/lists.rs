//! The lists of one file, and who is on them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, SubjectPublicKeyInfoDer};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};
use x509_parser::num_bigint::BigUint;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT, Oid,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::Revoked;
use super::path::paths;
use super::signed::{Signer, is_signed_by};
use crate::tls::time;

/// Bytes of a file that are read at most: no ConfigMap or Secret has more.
pub const LONGEST: usize = 1 << 20;

/// Keys of which a list keeps in mind whether they have signed it. A list has the key of one authority, and a few have its name.
const KEYS: usize = 8;

const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// A line with one of these begins or ends a block, or did before something happened to it.
const MARKS: [&[u8]; 3] = [b"-----BEGIN ", b"-----END ", b"X509 CRL"];

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
    series: Series,
    /// Grows from one list of a series to the next (RFC 5280 section 5.2.3).
    number: Option<BigUint>,
    /// Keys that were tried, and whether they have signed it: a large list takes its time.
    tried: Mutex<Vec<(SubjectPublicKeyInfoDer<'static>, bool)>>,
    /// Whether it was said that no root has signed it.
    told: AtomicBool,
}

/// Lists that take each other's place: of one issuer, by its name and its key's, for the same certificates.
#[derive(Debug, PartialEq, Eq)]
struct Series {
    issuer: Vec<u8>,
    key: Option<Vec<u8>>,
    part: Option<Vec<u8>>,
}

impl Lists {
    /// Reads PEM, one block `X509 CRL` a list, and no block of another kind: it would be a list in vain. Nothing but space is no list. Text
    /// between the blocks is nobody's, unless it was to begin or to end one.
    ///
    /// # Errors
    /// What is wrong, and with which list.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        if pem.len() > LONGEST {
            return Err(format!("it is larger than {LONGEST} bytes"));
        }
        let (begins, ends) = only_lists(pem)?;
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
        let whole = lists.len();
        if whole != begins || whole != ends {
            return Err(format!(
                "{begins} blocks begin, {ends} end, and {whole} of them are lists"
            ));
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

    /// The first certificate that is revoked on the way from a leaf to a root. The chain was verified. A list counts for the certificates
    /// that are signed with the key it is signed with itself; the leaf is refused too where that cannot be told of a certificate that is on a
    /// list.
    #[must_use]
    pub fn find(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: &[CertificateDer<'_>],
    ) -> Option<Revoked> {
        // Signatures are the costly part: they are looked at for who is on a list.
        let mut shown = std::iter::once(leaf).chain(intermediates);
        if !shown.any(|certificate| self.naming(certificate).next().is_some()) {
            return None;
        }
        let Some(path) = paths(leaf, intermediates, roots) else {
            return Some(described(leaf));
        };
        let mut issued = path.iter();
        let revoked = issued.find(|it| self.naming(it.der).any(|list| list.is_by(&it.by)));
        revoked.map(|it| described(it.der))
    }

    /// Lists that have a certificate's number under its issuer's name.
    fn naming<'a>(&'a self, certificate: &'a CertificateDer<'_>) -> impl Iterator<Item = &'a List> {
        let read = EndEntityCert::try_from(certificate).ok();
        let lists = read.map(|read| self.0.iter().filter(move |list| list.names(&read)));
        lists.into_iter().flatten()
    }

    /// Who is said to have written a list that none of these has signed.
    #[must_use]
    pub fn of_a_stranger(&self, issuers: &[CertificateDer<'_>]) -> Option<&str> {
        let foreign = |list: &&List| !list.is_of(issuers);
        self.0.iter().find(foreign).map(|list| &*list.issuer)
    }

    /// Says once of each list that no root has signed it: it may be that of an authority below, or of nobody.
    pub(super) fn tell_of_others(&self, roots: &[CertificateDer<'_>]) {
        for list in &self.0 {
            if !list.told.swap(true, Ordering::Relaxed) && !list.is_of(roots) {
                let issuer = &list.issuer;
                tracing::info!(
                    issuer,
                    "a certificate revocation list is signed by no root; it counts for peers that show the authority which has signed it"
                );
            }
        }
    }

    /// Nothing, if no series of lists has gone back since `before`.
    ///
    /// # Errors
    /// Whose list is older than the one that it would replace.
    pub(super) fn follow(&self, before: &Self) -> Result<(), String> {
        for list in &self.0 {
            let newest = |lists: &Self| {
                let same = lists.0.iter().filter(|it| it.series == list.series);
                same.filter_map(|it| it.number.clone()).max()
            };
            if let (Some(now), Some(then)) = (newest(self), newest(before))
                && now < then
            {
                let issuer = &list.issuer;
                return Err(format!(
                    "the list of {issuer:?} has number {now}, and number {then} counts; an empty file lifts all lists"
                ));
            }
        }
        Ok(())
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
        let next_update = parsed.next_update().map(|at| time(at.timestamp()));
        let extension = |oid: Oid<'_>| {
            let found = parsed.extensions().iter().find(|it| it.oid == oid);
            found.map(|it| it.value.to_vec())
        };
        let series = Series {
            issuer: parsed.issuer().as_raw().to_vec(),
            key: extension(OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER),
            part: extension(OID_X509_EXT_ISSUER_DISTRIBUTION_POINT),
        };
        let number = parsed.crl_number().cloned();
        Ok(Self {
            revoked: owned.into(),
            issuer,
            next_update,
            series,
            number,
            tried: Mutex::default(),
            told: AtomicBool::default(),
            der,
        })
    }

    /// Whether a certificate of this name and number is on it.
    fn names(&self, certificate: &EndEntityCert<'_>) -> bool {
        let listed = || self.revoked.find_serial(certificate.serial());
        self.revoked.issuer() == certificate.issuer() && matches!(listed(), Ok(Some(_)))
    }

    /// Whether one of these has signed it. Two authorities may have the same name, an old root and the new one, say.
    fn is_of(&self, issuers: &[CertificateDer<'_>]) -> bool {
        let mut signers = issuers.iter().filter_map(Signer::of);
        signers.any(|signer| signer.name == self.revoked.issuer() && self.is_by(&signer.key))
    }

    fn is_by(&self, key: &SubjectPublicKeyInfoDer<'static>) -> bool {
        let known = |tried: &[(SubjectPublicKeyInfoDer<'_>, bool)]| {
            let found = tried.iter().find(|(tried, _)| tried == key);
            found.map(|(_, signed)| *signed)
        };
        if let Some(signed) = known(&self.tried.lock()) {
            return signed;
        }
        let signed = is_signed_by(&self.der, key);
        let mut tried = self.tried.lock();
        if tried.len() < KEYS && known(&tried).is_none() {
            tried.push((key.clone(), signed));
        }
        signed
    }
}

/// How many lists begin, and how many end. A line that was to begin one and does not would hide it.
///
/// # Errors
/// A block that is something else.
fn only_lists(pem: &[u8]) -> Result<(usize, usize), String> {
    let lines = pem.split(|byte| matches!(byte, b'\n' | b'\r'));
    let has = |line: &[u8], mark: &[u8]| line.windows(mark.len()).any(|it| it == mark);
    let (mut begins, mut ends) = (0, 0);
    for line in lines.filter(|line| MARKS.iter().any(|mark| has(line, mark))) {
        let line = String::from_utf8_lossy(line);
        match line.trim_end() {
            BEGIN => begins += 1,
            END => ends += 1,
            _ if begins == ends || line.contains("BEGIN") => {
                let block = begins + 1;
                return Err(format!(
                    "block {block} begins with {line:.80?}, not with {BEGIN:?}"
                ));
            }
            _ => {
                return Err(format!(
                    "block {begins} ends with {line:.80?}, not with {END:?}"
                ));
            }
        }
    }
    Ok((begins, ends))
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
