//! The names of the mesh's trust domain: its own, and aliases, which mean the same (Istio: `trustDomain` and
//! `trustDomainAliases` of its MeshConfig). While a mesh is renamed there are certificates and policies of both.
//!
//! Two rules keep that simple and closed. An identity is *settled* where it enters a process: of an alias it
//! becomes one of the own name, so that decisions, pools and metrics know one name alone. A policy is *spelled
//! out* where it enters: what it says of one name it says of all, in what it matches and in what it excepts.
//! Neither without the other: a DENY of one spelling would not see an identity that is settled to another.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::identity::{Identity, IdentityError};
use crate::model::StringMatch;

/// The trust domain of a mesh that has not been given one. In policies it stands for whatever the mesh's is
/// called, as in Istio.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Aliases that a trust domain may have: every principal of every policy is written out under each.
pub const MOST_ALIASES: usize = 8;

/// Bytes of a trust domain's name (SPIFFE-ID section 2.1).
const LONGEST: usize = 255;

/// Segments of an identity without `spiffe://`: trust domain, `ns`, namespace, `sa`, service account.
const SEGMENTS: usize = 5;

/// The name of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.into())
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            return Err(TrustDomainError::Long(text.len()));
        }
        let identity = Identity::new(text, "ns", "sa")?;
        Ok(Self(identity.trust_domain().clone()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Other names of a trust domain, as settings have them: separated by commas, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(Vec<TrustDomain>);

impl FromStr for Aliases {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        let mut aliases = Vec::new();
        for name in names {
            let alias = name.parse().map_err(|error| TrustDomainError::Alias {
                alias: name.to_owned(),
                error: Box::new(error),
            })?;
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
            if aliases.len() > MOST_ALIASES {
                return Err(TrustDomainError::Many);
            }
        }
        Ok(Self(aliases))
    }
}

impl fmt::Display for Aliases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, alias) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator}{alias}")?;
        }
        Ok(())
    }
}

impl Serialize for Aliases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no trust domain, or no list of aliases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TrustDomainError {
    #[error("the name of a trust domain has {LONGEST} bytes at most, this one has {0}")]
    Long(usize),
    #[error(transparent)]
    Name(#[from] IdentityError),
    #[error("{alias:?}: {error}")]
    Alias { alias: String, error: Box<Self> },
    #[error("a trust domain has {MOST_ALIASES} aliases at most")]
    Many,
}

/// The names of the mesh's trust domain, as one process sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustDomains {
    own: TrustDomain,
    aliases: Arc<[TrustDomain]>,
}

impl TrustDomains {
    /// A trust domain with its aliases. The own name may be among them: then settings differ in the own name
    /// alone while a mesh is renamed.
    #[must_use]
    pub fn new(own: TrustDomain, aliases: Aliases) -> Self {
        let aliases = aliases.0.into_iter().filter(|alias| *alias != own);
        Self {
            aliases: aliases.collect(),
            own,
        }
    }

    /// The name that identities are settled to.
    #[must_use]
    pub fn own(&self) -> &Arc<str> {
        &self.own.0
    }

    /// Its other names, as [`Aliases`] reads them.
    #[must_use]
    pub fn aliases(&self) -> Aliases {
        Aliases(self.aliases.to_vec())
    }

    /// Whether this is one of its names.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|it| **it == *name)
    }

    /// The identity under the own name. One of another trust domain stays what it is.
    #[must_use]
    pub fn settle(&self, identity: Identity) -> Identity {
        if self.is_settled(&identity) {
            return identity;
        }
        identity.within(self.own().clone())
    }

    /// Whether [`TrustDomains::settle`] would leave it as it is.
    #[must_use]
    pub fn is_settled(&self, identity: &Identity) -> bool {
        let name = identity.trust_domain();
        self.aliases.iter().all(|alias| alias.0 != *name)
    }

    /// Adds to principals of a policy what they are called under the other names, so that an identity matches
    /// under each of them if it matches under one. Nothing is taken away, and twice is as good as once.
    pub fn spell_out(&self, principals: &mut Vec<StringMatch>) {
        let more: Vec<_> = principals.iter().flat_map(|it| self.others(it)).collect();
        if more.is_empty() {
            return;
        }
        let mut known: HashSet<StringMatch> = principals.iter().cloned().collect();
        principals.extend(more.into_iter().filter(|it| known.insert(it.clone())));
    }

    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let own = std::iter::once(&self.own);
        own.chain(self.aliases.iter()).map(|name| &name.0)
    }

    /// What a principal that covers an identity of the mesh does not cover under its other names.
    fn others(&self, principal: &StringMatch) -> Vec<StringMatch> {
        let exact = |name: &str, rest: &str| StringMatch::Exact(format!("{name}/{rest}").into());
        let prefix = |name: &str, rest: &str| StringMatch::Prefix(format!("{name}/{rest}").into());
        match principal {
            StringMatch::Exact(text) => match text.split_once('/') {
                Some((domain, rest)) => {
                    self.others_than(|name| name == domain, |name| exact(name, rest))
                }
                None => Vec::new(),
            },
            StringMatch::Prefix(text) => match text.split_once('/') {
                Some((domain, rest)) => {
                    self.others_than(|name| name == domain, |name| prefix(name, rest))
                }
                None => self.others_than(|name| name.starts_with(&**text), |name| prefix(name, "")),
            },
            StringMatch::Suffix(text) => match text.split_once('/') {
                // Only one that reaches into the first segment says anything of the trust domain.
                Some((end, rest)) if rest.split('/').count() == SEGMENTS - 1 => {
                    self.others_than(|name| name.ends_with(end), |name| exact(name, rest))
                }
                _ => Vec::new(),
            },
            StringMatch::Presence => Vec::new(),
        }
    }

    /// The names that are not covered, spelt, if one of the mesh's names is: by name, or as
    /// [`DEFAULT_TRUST_DOMAIN`].
    fn others_than(
        &self,
        covered: impl Fn(&str) -> bool,
        spell: impl Fn(&str) -> StringMatch,
    ) -> Vec<StringMatch> {
        let (meant, missing): (Vec<_>, Vec<_>) = self.names().partition(|name| covered(name));
        if meant.is_empty() && !covered(DEFAULT_TRUST_DOMAIN) {
            return Vec::new();
        }
        missing.into_iter().map(|name| spell(name)).collect()
    }
}

impl Default for TrustDomains {
    fn default() -> Self {
        Self::new(TrustDomain::default(), Aliases::default())
    }
}

#[cfg(test)]
mod tests;
