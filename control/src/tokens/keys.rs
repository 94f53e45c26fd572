//! The issuer's keys: a JWKS file that is read again when it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;

/// The keys of a JWKS file.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamp: Option<Stamp>,
    keys: Vec<Jwk>,
}

/// What tells that a file is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, is no JWKS, or has no key that can be used.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let stamp = stamp(&path);
        let keys = load(&path)?;
        let loaded = Mutex::new(Loaded { stamp, keys });
        Ok(Self { path, loaded })
    }

    /// The key with this id, fit for this algorithm. Without an id, the only fit one.
    #[must_use]
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut loaded = self.loaded.lock();
        self.refresh(&mut loaded);
        let mut fit = loaded.keys.iter().filter(|key| {
            fits(key, algorithm) && (id.is_none() || key.common.key_id.as_deref() == id)
        });
        let key = fit.next()?;
        if id.is_none() && fit.next().is_some() {
            return None;
        }
        DecodingKey::from_jwk(key).ok()
    }

    fn refresh(&self, loaded: &mut Loaded) {
        let stamp = stamp(&self.path);
        if stamp == loaded.stamp {
            return;
        }
        loaded.stamp = stamp;
        match load(&self.path) {
            Ok(keys) => {
                tracing::info!(file = %self.path.display(), keys = keys.len(), "read the token keys again");
                loaded.keys = keys;
            }
            Err(error) => tracing::error!(%error, "kept the token keys as they were"),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        len: metadata.len(),
        #[cfg(unix)]
        inode: std::os::unix::fs::MetadataExt::ino(&metadata),
    })
}

fn load(path: &Path) -> Result<Vec<Jwk>, String> {
    let at = |what: String| format!("{}: {what}", path.display());
    let text = fs::read(path).map_err(|error| at(error.to_string()))?;
    let set: JwkSet = serde_json::from_slice(&text)
        .map_err(|error| at(format!("is not a JSON Web Key Set: {error}")))?;
    let usable = |key: &Jwk| {
        ALL.iter().any(|algorithm| fits(key, *algorithm)) && DecodingKey::from_jwk(key).is_ok()
    };
    let keys: Vec<Jwk> = set.keys.into_iter().filter(usable).collect();
    if keys.is_empty() {
        return Err(at("has no RSA or EC (P-256, P-384) signing key".to_owned()));
    }
    Ok(keys)
}

const ALL: [Algorithm; 5] = super::ALGORITHMS;

/// The kind of key decides which algorithms it is for, and its `alg` and `use` narrow that.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512) => {
            true
        }
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES256) => {
            ec.curve == EllipticCurve::P256
        }
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES384) => {
            ec.curve == EllipticCurve::P384
        }
        _ => false,
    };
    let declared = key.common.key_algorithm.as_ref();
    let signs = key.common.public_key_use.as_ref();
    kind && declared.is_none_or(|declared| declared.to_string() == format!("{algorithm:?}"))
        && signs.is_none_or(|used| *used == PublicKeyUse::Signature)
}
