//! From a leaf to the roots, by signatures: names alone say nothing, as an old root and a new one may share theirs.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::signed::{Signer, is_signed_by};

/// A certificate of a path.
#[derive(Debug)]
pub(super) struct Issued<'a> {
    pub(super) der: &'a CertificateDer<'a>,
    /// With what key it is signed.
    pub(super) by: SubjectPublicKeyInfoDer<'static>,
}

/// A certificate that was shown.
struct Shown<'a> {
    der: &'a CertificateDer<'a>,
    /// As the verifier has read it.
    read: EndEntityCert<'a>,
    /// Known once the signature is verified.
    by: Option<SubjectPublicKeyInfoDer<'static>>,
}

/// The certificates on all paths from the leaf to a root; `None` where no path is found.
///
/// Authorities are found from the roots downwards, so that nobody is asked for a signature but those whom a root vouches for: what
/// a peer makes up itself costs one look for each of them, and leads no path astray. Every certificate is verified with the key of every authority
/// of its issuer's name once at most.
pub(super) fn paths<'a>(
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    roots: &[CertificateDer<'_>],
) -> Option<Vec<Issued<'a>>> {
    let all = std::iter::once(leaf).chain(intermediates);
    // The verifier made nothing of what cannot be read.
    let readable = |der: &'a CertificateDer<'a>| {
        let read = EndEntityCert::try_from(der).ok()?;
        Some(Shown {
            der,
            read,
            by: None,
        })
    };
    let mut shown: Vec<_> = all.filter_map(readable).collect();
    let mut authorities: Vec<_> = roots.iter().filter_map(Signer::of).collect();
    let mut next = 0;
    while let Some(authority) = authorities.get(next) {
        let mut below = Vec::new();
        for certificate in shown.iter_mut().filter(|it| it.by.is_none()) {
            if certificate.read.issuer() == authority.name
                && is_signed_by(certificate.der, &authority.key)
            {
                certificate.by = Some(authority.key.clone());
                below.extend(certificate.authority());
            }
        }
        authorities.extend(below);
        next += 1;
    }
    ancestors(&shown)
}

/// The first and what is above it, of what has led to a root.
fn ancestors<'a>(shown: &[Shown<'a>]) -> Option<Vec<Issued<'a>>> {
    let issued = |it: &Shown<'a>| {
        let by = it.by.clone()?;
        Some(Issued { der: it.der, by })
    };
    let mut path = vec![issued(shown.first()?)?];
    let mut names = vec![shown.first()?.read.issuer()];
    let mut next = 0;
    while let (Some(below), Some(name)) = (path.get(next), names.get(next)) {
        let is_above = |it: &&Shown<'_>| {
            it.read.subject() == *name
                && it.read.subject_public_key_info() == below.by
                && path.iter().all(|known| known.der != it.der)
        };
        let above: Vec<_> = shown.iter().filter(is_above).collect();
        for it in above {
            if let Some(issued) = issued(it) {
                path.push(issued);
                names.push(it.read.issuer());
            }
        }
        next += 1;
    }
    Some(path)
}

impl Shown<'_> {
    /// What it may sign as; the verifier lets nobody sign who is no authority (RFC 5280 section 4.2.1.9).
    fn authority(&self) -> Option<Signer> {
        let parsed = X509Certificate::from_der(self.der);
        let may = parsed.map_or(true, |(_, certificate)| certificate.is_ca());
        may.then(|| Signer {
            name: self.read.subject().to_vec(),
            key: self.read.subject_public_key_info(),
        })
    }
}
