//! Keys and certificate requests.

use ambit_core::identity::Identity;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

/// A fresh key and the request for it, both PEM.
pub(super) struct Request {
    /// PKCS#8.
    pub(super) key_pem: String,
    /// PKCS#10.
    pub(super) csr_pem: String,
}

/// Generates an ECDSA P-256 key and a request whose one name is the SPIFFE URI of `identity`.
pub(super) fn request(identity: &Identity) -> Result<Request, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let csr = params.serialize_request(&key)?;
    Ok(Request {
        key_pem: key.serialize_pem(),
        csr_pem: csr.pem()?,
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn asks_for_the_one_identity_with_a_p256_key() {
        let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web"
            .parse()
            .expect("valid");
        let made = request(&identity).expect("made");
        let (_, pem) = x509_parser::pem::parse_x509_pem(made.csr_pem.as_bytes()).expect("PEM");
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).expect("a request");
        csr.verify_signature()
            .expect("signed with the key it names");
        let names: Vec<_> = csr
            .requested_extensions()
            .expect("has extensions")
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(san) => Some(san.general_names.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(
            names,
            [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]
        );
        let key = csr
            .certification_request_info
            .subject_pki
            .parsed()
            .expect("a key");
        assert!(
            matches!(key, x509_parser::public_key::PublicKey::EC(point) if point.key_size() == 256)
        );
        let other = request(&identity).expect("made");
        assert_ne!(made.key_pem, other.key_pem, "every request has its own key");
    }
}
