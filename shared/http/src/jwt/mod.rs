//! JSON Web Tokens of requests: where they are, whether they are good, what follows.
//!
//! A request without a token passes, one with a bad token is answered with 401
//! (`RequestAuthentication`, security.istio.io/v1). No cryptography and no fetching here: signatures
//! are checked through [`Verifier`], key sets come from [`Keys`], [`KeyRing`] says when to fetch them.

mod authenticate;
mod check;
mod claims;
mod edits;
mod find;
mod jwk;
mod jws;
mod ring;
#[cfg(test)]
mod tests;
mod url;

pub use authenticate::{Authenticated, Rejection, TokenRequest, authenticate};
pub use check::CLOCK_SKEW;
pub use claims::Claims;
pub use edits::sanitise;
pub use jwk::{Algorithm, Curve, Jwk, Jwks, JwksError, PublicKey};
pub use ring::{BETWEEN_MISSES, KeyRing, LONGEST_SERVICE, Next, REFRESH};
pub use url::{JwksUrl, UrlError, check_address};

use std::sync::Arc;

use crate::model::KeySource;

/// Checks signatures.
pub trait Verifier {
    /// Whether `signature` is that of `signing_input` by `key`. The algorithm always fits the key.
    /// ECDSA signatures are the two numbers side by side (RFC 7518 section 3.4).
    fn verify(
        &self,
        algorithm: Algorithm,
        key: &Jwk,
        signing_input: &[u8],
        signature: &[u8],
    ) -> bool;
}

/// The key sets that are known.
pub trait Keys {
    /// Those of a source.
    ///
    /// # Errors
    /// Why there are none: not fetched yet, not reachable, not understood.
    fn keys(&self, source: &KeySource) -> Result<Arc<Jwks>, String>;
}
