//! Certificates as no good authority makes them.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Certificate;

const HOUR: Duration = Duration::from_secs(3600);

/// A chain, leaf first, and its key.
pub(super) type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate that the options describe; none when it has no identity.
pub(super) fn certificate(options: &Certificate) -> anyhow::Result<Option<Chain>> {
    if options.identities.is_empty() {
        return Ok(None);
    }
    let (root, issuer) = issuer(&options.ca, options.own_root)?;
    let now = SystemTime::now();
    let until = if options.expired {
        now - HOUR
    } else {
        now + HOUR
    };
    let mut params = CertificateParams::default();
    params.not_before = (now - 2 * HOUR).into();
    params.not_after = until.into();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    for identity in &options.identities {
        let uri = identity.as_str().try_into()?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(Some((vec![leaf.der().clone(), root], key.into())))
}

/// The mesh's authority, or a stranger.
fn issuer(
    folder: &Path,
    own_root: bool,
) -> anyhow::Result<(CertificateDer<'static>, Issuer<'static, KeyPair>)> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let certificate = read("ca-cert.pem")?;
    if !own_root {
        let root = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = KeyPair::from_pem(&read("ca-key.pem")?)?;
        return Ok((root, Issuer::from_ca_cert_pem(&certificate, key)?));
    }
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let root = params.self_signed(&key)?.der().clone();
    Ok((root, Issuer::new(params, key)))
}
