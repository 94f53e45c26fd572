//! The compact form of a signed token (RFC 7515, 7519): header, payload, signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwk::Algorithm;

/// Bytes of a token.
const LONGEST: usize = 16 << 10;

/// A token whose signature has not been checked.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// Header and payload as they were signed.
    pub signing_input: &'t str,
    /// As it was sent, base64url.
    pub payload: &'t str,
    pub claims: Map<String, Value>,
    pub signature: Vec<u8>,
}

/// Header members that count; one that occurs twice is an error. `jwk`, `jku`, `x5u` and `x5c` are what a
/// forger would set: keys come from the configuration alone.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    cty: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
    enc: Option<Value>,
}

/// Takes a token apart.
///
/// # Errors
/// What is wrong with it, for the log and the client.
pub(super) fn parse(token: &str) -> Result<Unverified<'_>, &'static str> {
    if token.len() > LONGEST {
        return Err("the token is longer than 16 KiB");
    }
    let shape = "the token is not of the form HEADER.PAYLOAD.SIGNATURE";
    let (signing_input, signature) = token.rsplit_once('.').ok_or(shape)?;
    let (header, payload) = signing_input.split_once('.').ok_or(shape)?;
    if payload.contains('.') {
        return Err(shape);
    }
    let decode = |part: &str, error| URL_SAFE_NO_PAD.decode(part).map_err(|_| error);
    let header = decode(header, "the token's header is not base64url")?;
    let header: Header = serde_json::from_slice(&header)
        .map_err(|_| "the token's header is not a JSON object with one alg")?;
    let algorithm = algorithm(&header)?;
    let signature = decode(signature, "the token's signature is not base64url")?;
    let claims = decode(payload, "the token's payload is not base64url")?;
    let claims: Map<String, Value> =
        serde_json::from_slice(&claims).map_err(|_| "the token's payload is not a JSON object")?;
    Ok(Unverified {
        algorithm,
        kid: header.kid,
        signing_input,
        payload,
        claims,
        signature,
    })
}

fn algorithm(header: &Header) -> Result<Algorithm, &'static str> {
    // Nothing that `crit` may name is understood (RFC 7515 section 4.1.11).
    if header.crit.is_some() || header.b64.is_some() {
        return Err("the token has critical header parameters");
    }
    if header.enc.is_some() {
        return Err("the token is encrypted");
    }
    let nested =
        |cty: &str| cty.eq_ignore_ascii_case("JWT") || cty.eq_ignore_ascii_case("application/jwt");
    if header.cty.as_deref().is_some_and(nested) {
        return Err("the token holds another token");
    }
    Algorithm::parse(&header.alg).ok_or("the token's algorithm is not accepted")
}
