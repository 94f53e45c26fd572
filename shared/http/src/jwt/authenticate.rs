//! The order: find the one token, take it apart, find a rule that accepts it.

use std::borrow::Cow;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};

use super::check::suits;
use super::edits::Edits;
use super::find::{DEFAULTS, Found, find};
use super::jws::{Unverified, parse};
use super::{Claims, Keys, Verifier};
use crate::model::{JwtRule, KeySource, RequestAuthentication, TokenSource};
use crate::refusal::{Flag, Refusal};

/// The parts of a request in which tokens are.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest<'r> {
    #[allow(missing_docs)]
    pub headers: &'r HeaderMap,
    /// As it was received, without `?`.
    pub query: Option<&'r str>,
}

/// A good token.
#[derive(Debug, Clone, PartialEq)]
pub struct Authenticated {
    /// For [`authorize`](crate::authz::authorize).
    pub claims: Claims,
    pub(super) edits: Edits,
}

/// A bad token, or no way to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// 401.
    pub refusal: Refusal,
    /// A newer key set of this source might change the answer: ask its
    /// [`KeyRing`](super::KeyRing), and if that fetches, try once more.
    pub stale: Option<Box<KeySource>>,
}

impl Rejection {
    /// `www-authenticate` of the answer (RFC 6750 section 3).
    pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");
}

/// Whether the request has a token (`None`: it has not, and passes), and whose it is. `authentications` are those that
/// apply; one rule of them has to accept the token.
///
/// # Errors
/// 401 for a token that no rule accepts, for more than one token, and when keys are not available: what cannot
/// be checked is not good. (Istio answers 401 as well.)
pub fn authenticate<'a>(
    authentications: impl IntoIterator<Item = &'a RequestAuthentication>,
    request: &TokenRequest<'_>,
    keys: &dyn Keys,
    verifier: &dyn Verifier,
    now: SystemTime,
) -> Result<Option<Authenticated>, Rejection> {
    let mut search = Search {
        request,
        token: None,
        rules: Vec::new(),
        broken: None,
    };
    for authentication in authentications {
        search.look(authentication)?;
    }
    let Some(token) = search.token else {
        return Ok(None);
    };
    if let Some(authentication) = search.broken {
        let reason = authentication.undecodable.as_deref().unwrap_or_default();
        let key = &authentication.key;
        return Err(bad(format!(
            "request authentication {key} cannot be understood ({reason}); correct or remove it"
        )));
    }
    let unverified = parse(&token).map_err(bad)?;
    let issuer = unverified.claims.get("iss").and_then(|iss| iss.as_str());
    let mut rejection = None;
    for (rule, _) in &search.rules {
        if issuer != Some(&*rule.issuer) {
            continue;
        }
        match accepts(rule, &unverified, keys, verifier, now) {
            Ok(()) => {
                let claims = Claims::verified(unverified.claims);
                // Whichever rule looked there: it is the same token.
                let places = search.rules.iter().flat_map(|(_, places)| places);
                let edits = Edits::new(rule, places.copied(), unverified.payload, &claims);
                return Ok(Some(Authenticated { claims, edits }));
            }
            Err(reason) => rejection = worse(rejection, reason),
        }
    }
    Err(rejection.unwrap_or_else(|| bad("no rule accepts the token's issuer")))
}

/// What was found so far.
struct Search<'s, 'r, 'a> {
    request: &'s TokenRequest<'r>,
    token: Option<Cow<'r, str>>,
    /// Rules that see the token, and where.
    rules: Vec<(&'a JwtRule, Vec<&'a TokenSource>)>,
    broken: Option<&'a RequestAuthentication>,
}

impl<'a> Search<'_, '_, 'a> {
    fn look(&mut self, authentication: &'a RequestAuthentication) -> Result<(), Rejection> {
        if authentication.undecodable.is_some() {
            self.broken = Some(authentication);
            self.places(&[])?;
        }
        for rule in &authentication.rules {
            let places = self.places(&rule.sources)?;
            if !places.is_empty() {
                self.rules.push((rule, places));
            }
        }
        Ok(())
    }

    /// At which of the sources the token is.
    fn places(&mut self, sources: &'a [TokenSource]) -> Result<Vec<&'a TokenSource>, Rejection> {
        let sources = if sources.is_empty() {
            &DEFAULTS[..]
        } else {
            sources
        };
        let mut places = Vec::new();
        for source in sources {
            match (
                find(source, self.request.headers, self.request.query),
                &self.token,
            ) {
                (Found::Nothing, _) => continue,
                (Found::Token(found), None) => self.token = Some(found),
                (Found::Token(found), Some(token)) if found == *token => {}
                // RFC 6750 section 2: one method, one token.
                (Found::Token(_) | Found::Ambiguous, _) => {
                    return Err(bad("the request has more than one token"));
                }
            }
            places.push(source);
        }
        Ok(places)
    }
}

/// Why a rule does not accept a token.
struct Reason {
    text: String,
    stale: Option<Box<KeySource>>,
}

fn accepts(
    rule: &JwtRule,
    token: &Unverified<'_>,
    keys: &dyn Keys,
    verifier: &dyn Verifier,
    now: SystemTime,
) -> Result<(), Reason> {
    let plain = |text: &str| Reason {
        text: text.into(),
        stale: None,
    };
    suits(&token.claims, rule, now).map_err(plain)?;
    let stale = |text: String| Reason {
        text,
        stale: Some(Box::new(rule.keys.clone())),
    };
    let issuer = &rule.issuer;
    let set = keys
        .keys(&rule.keys)
        .map_err(|error| stale(format!("the keys of {issuer} are not available: {error}")))?;
    let mut candidates = set
        .candidates(token.algorithm, token.kid.as_deref())
        .peekable();
    if candidates.peek().is_none() {
        return Err(stale(format!("no key of {issuer} fits the token")));
    }
    let input = token.signing_input.as_bytes();
    if candidates.any(|key| verifier.verify(token.algorithm, key, input, &token.signature)) {
        return Ok(());
    }
    Err(plain("the token's signature is wrong"))
}

/// Keeps the reason that can be cured by newer keys.
fn worse(known: Option<Rejection>, reason: Reason) -> Option<Rejection> {
    match known {
        Some(known) if known.stale.is_some() || reason.stale.is_none() => Some(known),
        _ => {
            let stale = reason.stale;
            Some(Rejection {
                stale,
                ..bad(reason.text)
            })
        }
    }
}

fn bad(reason: impl Into<String>) -> Rejection {
    Rejection {
        refusal: Refusal::new(401, Flag::None, reason),
        stale: None,
    }
}
