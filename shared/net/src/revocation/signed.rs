//! Who has signed a certificate or a list, by the same algorithms that verify chains.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use webpki::{RawPublicKeyEntity, anchor_from_trusted_cert, spki_for_anchor};
use x509_parser::asn1_rs::{Any, FromDer};

use crate::tls::provider;

/// Something signed: `SEQUENCE { message, algorithm, signature }`, as certificates and lists are (RFC 5280 sections 4.1 and 5.1).
struct Signed<'a> {
    message: &'a [u8],
    /// What its `SEQUENCE` holds.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (_, all) = Any::from_der(der).ok()?;
        let (rest, _) = Any::from_der(all.data).ok()?;
        let message = &all.data[..all.data.len() - rest.len()];
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, bits) = Any::from_der(rest).ok()?;
        match bits.data.split_first() {
            Some((0, signature)) => Some(Self {
                message,
                algorithm: algorithm.data,
                signature,
            }),
            // No algorithm makes a part of a byte.
            _ => None,
        }
    }
}

/// Whether a certificate or a list, DER, is signed with this key.
pub(super) fn is_signed_by(der: &[u8], key: &SubjectPublicKeyInfoDer<'_>) -> bool {
    let (Some(signed), Ok(key)) = (Signed::read(der), RawPublicKeyEntity::try_from(key)) else {
        return false;
    };
    let algorithms = provider().signature_verification_algorithms.all;
    let mut named = algorithms
        .iter()
        .filter(|it| it.signature_alg_id().as_ref() == signed.algorithm);
    named.any(|algorithm| {
        key.verify_signature(*algorithm, signed.message, signed.signature)
            .is_ok()
    })
}

/// Who may have signed something.
#[derive(Debug)]
pub(super) struct Signer {
    /// What the `SEQUENCE` of its distinguished name holds.
    pub(super) name: Vec<u8>,
    pub(super) key: SubjectPublicKeyInfoDer<'static>,
}

impl Signer {
    /// Whom a certificate is of; nobody, where it cannot be read.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let anchor = anchor_from_trusted_cert(certificate).ok()?;
        Some(Self {
            name: anchor.subject.to_vec(),
            key: spki_for_anchor(&anchor),
        })
    }
}
