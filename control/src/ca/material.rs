//! The authority's key and certificates, and what it signs with them.

use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_net::revocation::Lists;
use ambit_net::tls::{Chain, ChainJudge, Proven, pem};
use rand::RngCore;
use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::files::{CRL, NAMES};
use super::machine;

/// Clocks of peers may be behind by at most this much, one that was set back by mistake among them.
const MAX_BACKDATE: Duration = Duration::from_secs(300);
/// The life of a root made here.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The files of an authority, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Pems {
    /// `ca-cert.pem`: the certificate that signs.
    pub ca_cert: String,
    /// `ca-key.pem`: its key.
    pub ca_key: String,
    /// `root-cert.pem`: what peers trust, one or several.
    pub root_cert: String,
    /// `cert-chain.pem`: from the signing certificate up to the root; may be empty.
    pub cert_chain: String,
    /// `ca-crl.pem`: lists of certificates that the authority and those above it have revoked. Empty says that there are none;
    /// without the file nothing is said of them.
    pub revoked: Option<String>,
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    signing: CertificateDer<'static>,
    /// Between a leaf and the roots.
    path: Vec<CertificateDer<'static>>,
    trusted: Vec<CertificateDer<'static>>,
    /// PEM of all that are trusted.
    roots: String,
    /// PEM, empty without lists.
    revoked: Option<String>,
    /// Of what clients show.
    judge: ChainJudge,
    not_after: SystemTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Pems {
    /// Name and text of each file that an authority has, the certificate that signs first; not of its revocation lists.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &str); 4] {
        let [ca_cert, ca_key, root_cert, cert_chain] = NAMES;
        [
            (ca_cert, &self.ca_cert),
            (ca_key, &self.ca_key),
            (root_cert, &self.root_cert),
            (cert_chain, &self.cert_chain),
        ]
    }

    /// A new root that signs by itself.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate(trust_domain: &str, now: SystemTime) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, trust_domain);
        name.push(DnType::CommonName, format!("Ambit root of {trust_domain}"));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        validity(&mut params, now, now + ROOT_LIFETIME);
        let cert = params.self_signed(&key)?.pem();
        Ok(Self {
            ca_cert: cert.clone(),
            ca_key: key.serialize_pem(),
            root_cert: cert.clone(),
            cert_chain: cert,
            revoked: None,
        })
    }
}

impl Authority {
    /// Reads and checks the material.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn new(pems: &Pems, now: SystemTime) -> Result<Self, String> {
        let signing = certificates("ca-cert.pem", &pems.ca_cert)?;
        let [signing] = &signing[..] else {
            return Err(
                "ca-cert.pem holds more than one certificate; the others belong in cert-chain.pem"
                    .to_owned(),
            );
        };
        let roots = certificates("root-cert.pem", &pems.root_cert)?;
        let chain = if pems.cert_chain.trim().is_empty() {
            Vec::new()
        } else {
            certificates("cert-chain.pem", &pems.cert_chain)?
        };
        let key =
            KeyPair::from_pem(&pems.ca_key).map_err(|error| format!("ca-key.pem: {error}"))?;
        let (_, parsed) =
            parse_x509_certificate(signing).map_err(|error| format!("ca-cert.pem: {error}"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err("ca-key.pem is not the key of ca-cert.pem".to_owned());
        }
        if !parsed.is_ca() {
            return Err("ca-cert.pem is not the certificate of a CA".to_owned());
        }
        let until = parsed.validity().not_after.timestamp();
        let until = Duration::from_secs(u64::try_from(until).unwrap_or_default());
        let not_after = SystemTime::UNIX_EPOCH + until;
        if not_after <= now {
            return Err(format!(
                "ca-cert.pem expired at {}",
                parsed.validity().not_after
            ));
        }
        let mut path = vec![signing.clone()];
        path.extend(chain.into_iter().filter(|cert| cert != signing));
        path.retain(|cert| !roots.contains(cert));
        check_path(signing, &path, &roots)?;
        let lists = lists(
            pems.revoked.as_deref().unwrap_or_default(),
            &[&path[..], &roots[..]].concat(),
        )?;
        let judge = ChainJudge::new(roots.clone(), lists)
            .map_err(|error| format!("root-cert.pem: {error}"))?;
        let issuer = Issuer::from_ca_cert_der(signing, key)
            .map_err(|error| format!("ca-cert.pem: {error}"))?;
        Ok(Self {
            issuer,
            signing: signing.clone(),
            path,
            roots: roots.iter().map(|cert| pem(cert)).collect(),
            trusted: roots,
            revoked: pems.revoked.as_deref().map(|lists| lists.trim().to_owned()),
            judge,
            not_after,
        })
    }

    /// What peers trust, PEM.
    #[must_use]
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// Certificate revocation lists, PEM; empty when there are none, `None` where nothing is said of them.
    #[must_use]
    pub fn revoked(&self) -> Option<&str> {
        self.revoked.as_deref()
    }

    /// Who shows these certificates now, if they are signed by this authority and it has not revoked them.
    ///
    /// # Errors
    /// Why nobody is known by them.
    pub fn check(&self, shown: &Chain, now: SystemTime) -> Result<Proven, String> {
        self.judge.check(shown, now)
    }

    /// What fails when this authority takes the place of `before` while certificates of it are about: those who hold them trust the
    /// roots that these came with, until they have others.
    #[must_use]
    pub fn gap(&self, before: &Self) -> Option<&'static str> {
        if !self.trusted.iter().any(|it| before.trusted.contains(it)) {
            return Some("no former root is trusted any more");
        }
        let is_believed = check_path(&self.signing, &self.path, &before.trusted).is_ok();
        (!is_believed).then_some("what signs leads to no root that was trusted before")
    }

    /// A workload's certificate: PEM, the leaf first, all roots in the last element.
    ///
    /// # Errors
    /// The CA certificate has expired, or signing failed.
    pub fn sign_workload(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Vec<String>, String> {
        let nobody = DistinguishedName::new();
        self.sign_identity(key, identity, nobody, (lifetime, now))
    }

    /// The certificate of a machine, with the name of its WorkloadEntry: it alone can prove who asks for the next one.
    ///
    /// # Errors
    /// The CA certificate has expired, or signing failed.
    pub fn sign_machine(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        entry: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Vec<String>, String> {
        let mut subject = DistinguishedName::new();
        let text = PrintableString::try_from(machine::qualifier(entry));
        let text = text.map_err(|error| error.to_string())?;
        let qualifier = DnType::CustomDnType(machine::DN_QUALIFIER.to_vec());
        subject.push(qualifier, DnValue::PrintableString(text));
        self.sign_identity(key, identity, subject, (lifetime, now))
    }

    fn sign_identity(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        subject: DistinguishedName,
        (lifetime, now): (Duration, SystemTime),
    ) -> Result<Vec<String>, String> {
        let uri = identity.to_string();
        let uri = uri
            .as_str()
            .try_into()
            .map_err(|error: rcgen::Error| error.to_string())?;
        let purposes = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = purposes.to_vec();
        let leaf = self.sign(key, params, lifetime, now)?;
        let mut chain = vec![pem(&leaf)];
        chain.extend(self.path.iter().map(|cert| pem(cert)));
        chain.push(self.roots.clone());
        Ok(chain)
    }

    /// A server's certificate chain for names and addresses: DER, the leaf first, without roots.
    ///
    /// # Errors
    /// A name that is none, an expired CA certificate, or signing failed.
    pub fn sign_server(
        &self,
        key: &impl PublicKeyData,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, String> {
        let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = self.sign(key, params, lifetime, now)?;
        let mut chain = vec![leaf];
        chain.extend(self.path.iter().cloned());
        Ok(chain)
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        mut params: CertificateParams,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, String> {
        if self.not_after <= now {
            return Err("the CA certificate has expired; replace it".to_owned());
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        // In proportion to the lifetime, so that renewal at half life works for short ones as well.
        let backdate = MAX_BACKDATE.min(lifetime / 10);
        validity(
            &mut params,
            now - backdate,
            (now + lifetime).min(self.not_after),
        );
        let cert = params
            .signed_by(key, &self.issuer)
            .map_err(|error| format!("signing failed: {error}"))?;
        Ok(cert.der().clone())
    }
}

/// The signing certificate has to lead to a root by the chain.
fn check_path(
    signing: &CertificateDer<'static>,
    path: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Result<(), String> {
    if roots.contains(signing) {
        return Ok(());
    }
    let signs = |issuer: &CertificateDer<'_>, cert: &CertificateDer<'_>| {
        let (Ok((_, issuer)), Ok((_, cert))) =
            (parse_x509_certificate(issuer), parse_x509_certificate(cert))
        else {
            return false;
        };
        cert.issuer() == issuer.subject()
            && cert.verify_signature(Some(issuer.public_key())).is_ok()
    };
    let mut at = signing;
    for _ in 0..=path.len() {
        if roots.iter().any(|root| signs(root, at)) {
            return Ok(());
        }
        match path.iter().find(|next| *next != at && signs(next, at)) {
            Some(next) => at = next,
            None => break,
        }
    }
    Err("ca-cert.pem does not lead to root-cert.pem; put the certificates between into cert-chain.pem".to_owned())
}

/// The lists of a text. Each has to be signed by somebody of the authority's path: a list that nobody here has signed revokes nothing.
fn lists(text: &str, signers: &[CertificateDer<'static>]) -> Result<Lists, String> {
    let lists = Lists::parse(text.as_bytes()).map_err(|error| format!("{CRL}: {error}"))?;
    match lists.of_a_stranger(signers) {
        None => Ok(lists),
        Some(issuer) => Err(format!(
            "{CRL}: the list of {issuer:?} is signed by no certificate of ca-cert.pem, cert-chain.pem or root-cert.pem"
        )),
    }
}

fn certificates(file: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{file}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{file} holds no certificate"));
    }
    Ok(found)
}

fn validity(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let since_epoch = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(since_epoch(from));
    params.not_after = epoch + Duration::from_secs(since_epoch(until));
}

/// 159 random bits: positive, unpredictable, unique.
fn serial() -> SerialNumber {
    let mut bytes = [0; 20];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
#[path = "material_tests.rs"]
mod tests;
