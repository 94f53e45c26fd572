//! JSON Web Keys (RFC 7517, 7518, 8037): public keys that signatures can be checked with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a key set.
const LONGEST_SET: usize = 1 << 20;
/// Keys of a set: a token without `kid` is tried with each that fits.
const MOST_KEYS: usize = 100;
/// Bits of an RSA modulus (RFC 7518 section 3.3 asks for 2048 or more).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A signature algorithm. Neither `none` nor a symmetric one is among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// By its name in a JOSE header, exactly.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A public key of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// Its name; only ever compared.
    pub kid: Option<Box<str>>,
    /// The one algorithm it is for; `None`: all of its type.
    pub algorithm: Option<Algorithm>,
    #[allow(missing_docs)]
    pub key: PublicKey,
}

/// The key itself, numbers big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent without leading zeros.
    Rsa {
        #[allow(missing_docs)]
        n: Box<[u8]>,
        #[allow(missing_docs)]
        e: Box<[u8]>,
    },
    /// A point, each coordinate as long as the curve's field.
    Ec {
        #[allow(missing_docs)]
        curve: Curve,
        #[allow(missing_docs)]
        x: Box<[u8]>,
        #[allow(missing_docs)]
        y: Box<[u8]>,
    },
    /// The encoded point of RFC 8032.
    Ed25519([u8; 32]),
}

/// The curves of ES256 and ES384.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Curve {
    P256,
    P384,
}

impl Jwk {
    /// Whether signatures of this algorithm may be checked with this key: its type and its own
    /// `alg` decide, never the token alone.
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        let of_type = match &self.key {
            PublicKey::Rsa { .. } => matches!(
                algorithm,
                A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512
            ),
            PublicKey::Ec { curve, .. } => match curve {
                Curve::P256 => algorithm == A::Es256,
                Curve::P384 => algorithm == A::Es384,
            },
            PublicKey::Ed25519(_) => algorithm == A::EdDsa,
        };
        of_type && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// A key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

impl Jwks {
    /// Reads a set. Keys that cannot check signatures here are left out, as RFC 7517 section 5 has it:
    /// symmetric ones (`oct`), for encryption, of other curves, of too few bits, malformed.
    ///
    /// # Errors
    /// Not a key set, or no key is left.
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        if text.len() > LONGEST_SET {
            return Err(JwksError::TooLong);
        }
        let set: Set =
            serde_json::from_slice(text).map_err(|e| JwksError::NotASet(e.to_string()))?;
        let found = set.keys.len();
        let keys: Vec<Jwk> = set.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(JwksError::NoKey { found });
        }
        if keys.len() > MOST_KEYS {
            return Err(JwksError::TooMany { found: keys.len() });
        }
        Ok(Self { keys })
    }

    /// Every key.
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// The keys a token of this algorithm may be signed with: those of its `kid` and those without one;
    /// all when the token names none.
    pub fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Jwk> {
        let named = move |key: &Jwk| match (kid, &key.kid) {
            (Some(wanted), Some(own)) => wanted == &**own,
            _ => true,
        };
        let mut keys = self.keys.iter();
        std::iter::from_fn(move || keys.find(|key| key.fits(algorithm) && named(key)))
    }
}

/// Why a text is not a usable key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than a MiB.
    #[error("a key set has at most {LONGEST_SET} bytes")]
    TooLong,
    /// Not JSON of this shape.
    #[error("not a JSON Web Key set: {0}")]
    NotASet(String),
    /// None of its keys can be used.
    #[error(
        "none of the {found} keys of the set can be used: RSA of 2048 bits or more, P-256, P-384 \
         and Ed25519 public keys for signatures can"
    )]
    NoKey {
        /// How many it has.
        found: usize,
    },
    /// More than anybody needs.
    #[error("the set has {found} keys, more than {MOST_KEYS}")]
    TooMany {
        /// How many it has.
        found: usize,
    },
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The members that count; a member that occurs twice is an error.
#[derive(Deserialize)]
struct Members {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn key(value: Value) -> Option<Jwk> {
    let members: Members = serde_json::from_value(value).ok()?;
    let for_signatures = members.purpose.as_deref().is_none_or(|it| it == "sig");
    let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if !for_signatures || !members.key_ops.as_ref().is_none_or(verifies) {
        return None;
    }
    // A key for an algorithm that is not known here is for none.
    let algorithm = match &members.alg {
        Some(name) => Some(Algorithm::parse(name)?),
        None => None,
    };
    let curve = members.crv.as_deref();
    let key = match (members.kty.as_str(), curve) {
        ("RSA", None) => rsa(number(members.n)?, number(members.e)?)?,
        ("EC", Some("P-256")) => point(Curve::P256, 32, members.x, members.y)?,
        ("EC", Some("P-384")) => point(Curve::P384, 48, members.x, members.y)?,
        ("OKP", Some("Ed25519")) => PublicKey::Ed25519(bytes(members.x)?.try_into().ok()?),
        _ => return None,
    };
    let kid = members.kid.map(String::into_boxed_str);
    Some(Jwk {
        kid,
        algorithm,
        key,
    })
}

fn rsa(n: Box<[u8]>, e: Box<[u8]>) -> Option<PublicKey> {
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    let odd = e.last()? % 2 == 1 && *e != [1];
    (RSA_BITS.contains(&bits) && odd && e.len() <= 8).then_some(PublicKey::Rsa { n, e })
}

fn point(curve: Curve, length: usize, x: Option<String>, y: Option<String>) -> Option<PublicKey> {
    let (x, y) = (bytes(x)?.into_boxed_slice(), bytes(y)?.into_boxed_slice());
    (x.len() == length && y.len() == length).then_some(PublicKey::Ec { curve, x, y })
}

/// Without leading zeros.
fn number(text: Option<String>) -> Option<Box<[u8]>> {
    let bytes = bytes(text)?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[start..].into())
}

fn bytes(text: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
