//! Certificate signing requests. Nothing of one is used but its public key.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// No key that is asked for needs more.
const MAX_LENGTH: usize = 16 * 1024;
const MIN_RSA_BITS: usize = 2048;

/// The public key of a request that proves possession of the private one.
///
/// # Errors
/// What is wrong with the request, for its author.
pub fn public_key(pem: &str) -> Result<SubjectPublicKeyInfo, String> {
    if pem.len() > MAX_LENGTH {
        return Err(format!("the CSR is longer than {MAX_LENGTH} bytes"));
    }
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| "the CSR is not PEM".to_owned())?;
    if !matches!(
        pem.label.as_str(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"
    ) {
        return Err(format!(
            "expected a CERTIFICATE REQUEST, found a {}",
            pem.label
        ));
    }
    let (rest, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| format!("the CSR cannot be read: {error}"))?;
    if !rest.is_empty() {
        return Err("the CSR has trailing bytes".to_owned());
    }
    request
        .verify_signature()
        .map_err(|_| "the CSR's signature is not that of its key".to_owned())?;
    let key = &request.certification_request_info.subject_pki;
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() < MIN_RSA_BITS => {
            return Err(format!(
                "an RSA key needs {MIN_RSA_BITS} bits, found {}",
                rsa.key_size()
            ));
        }
        Ok(_) => {}
        Err(error) => return Err(format!("the CSR's key cannot be read: {error}")),
    }
    SubjectPublicKeyInfo::from_der(key.raw)
        .map_err(|_| "the CSR's key is not ECDSA (P-256, P-384), RSA or Ed25519".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use ambit_net::tls::testing::{CHANGE, block, blur, spoil};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    fn csr(key: &KeyPair) -> String {
        CertificateParams::new(vec!["ignored.example".to_owned()])
            .and_then(|params| params.serialize_request(key))
            .and_then(|request| request.pem())
            .expect("a request")
    }

    #[test]
    fn keys_that_are_signed_for() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let found = public_key(&csr(&key)).expect("accepted");
            assert_eq!(found.der_bytes(), key.der_bytes(), "{algorithm:?}");
        }
    }

    #[test]
    fn requests_that_are_refused() {
        let key = KeyPair::generate().expect("a key");
        let good = csr(&key);
        let own = CertificateParams::default()
            .self_signed(&key)
            .expect("signed");
        // The last bytes of the DER are the signature's.
        let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
        let at = lines.len() - 2;
        let flipped: String = lines[at]
            .chars()
            .map(|c| if c == 'A' { 'B' } else { 'A' })
            .collect();
        lines[at] = if lines[at].ends_with('=') {
            let keep = lines[at].len() - 4;
            format!("{}{}", &flipped[..keep], &lines[at][keep..])
        } else {
            flipped
        };
        let forged = lines.join("\n");
        let cases = [
            ("", "not PEM"),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                "cannot be read",
            ),
            (&own.pem(), "expected a CERTIFICATE REQUEST"),
            (&"x".repeat(MAX_LENGTH + 1), "longer"),
        ];
        for (pem, reason) in cases {
            let error = public_key(pem).expect_err("refused");
            assert!(error.contains(reason), "{error}");
        }
        assert!(public_key(&forged).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_changed_a_request_is_of_its_own_key(
            as_text in any::<bool>(),
            changes in vec(any::<[u8; CHANGE]>(), 1..4),
        ) {
            let (key, request) = &*REQUEST;
            let whole = block(LABEL, request);
            let changed = if as_text {
                String::from_utf8_lossy(&blur(&whole, &changes)).into_owned()
            } else {
                block(LABEL, &spoil(request, &changes))
            };
            for (pem, is_whole) in [(whole, true), (changed, false)] {
                match public_key(&pem) {
                    Ok(found) => prop_assert_eq!(found.der_bytes(), key.der_bytes()),
                    Err(error) => prop_assert!(!is_whole && !error.is_empty()),
                }
            }
        }
    }

    const LABEL: &str = "CERTIFICATE REQUEST";

    /// A key, and a request for it, DER.
    static REQUEST: LazyLock<(KeyPair, Vec<u8>)> = LazyLock::new(|| {
        let key = KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key);
        let request = request.expect("a request").der().to_vec();
        (key, request)
    });
}
