//! Signatures of tokens, checked.

use ambit_http::jwt::{Algorithm, Curve, Jwk, PublicKey, Verifier};
use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// Checks with the process's one cryptography.
pub(super) struct Signatures;

impl Verifier for Signatures {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, input: &[u8], signature: &[u8]) -> bool {
        check(algorithm, key, input, signature).is_some()
    }
}

fn check(algorithm: Algorithm, key: &Jwk, input: &[u8], signature: &[u8]) -> Option<()> {
    match &key.key {
        PublicKey::Rsa { n, e } => {
            let parameters = rsa(algorithm)?;
            let key = RsaPublicKeyComponents { n, e };
            key.verify(parameters, input, signature).ok()
        }
        PublicKey::Ec { curve, x, y } => {
            let checks: &dyn VerificationAlgorithm = match curve {
                Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED,
                Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            };
            // An uncompressed point (SEC 1, section 2.3.3).
            let point = [&[4], &**x, &**y].concat();
            UnparsedPublicKey::new(checks, point)
                .verify(input, signature)
                .ok()
        }
        PublicKey::Ed25519(point) => {
            let key = UnparsedPublicKey::new(&signature::ED25519, point);
            key.verify(input, signature).ok()
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    use Algorithm as A;
    Some(match algorithm {
        A::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        A::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        A::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        A::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        A::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        A::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        A::Es256 | A::Es384 | A::EdDsa => return None,
    })
}
