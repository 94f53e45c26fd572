//! SPIFFE identities as the mesh uses them: one trust domain, one namespace, one service account.
//!
//! The only accepted form is `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`. Anything
//! else - a missing or an extra segment, an empty one, an escape, a query - is an error, so that
//! two different certificates can never read as one identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

const SCHEME: &str = "spiffe://";

/// Who a workload is: what its certificate says and what policies judge.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl Identity {
    /// Builds an identity from its parts.
    ///
    /// # Errors
    /// A part that is empty or has a character outside `[A-Za-z0-9._-]` (the SPIFFE path and
    /// trust-domain character sets, which Kubernetes names are within).
    pub fn new(
        trust_domain: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        service_account: impl Into<Arc<str>>,
    ) -> Result<Self, IdentityError> {
        Ok(Self {
            trust_domain: checked(Part::TrustDomain, trust_domain.into())?,
            namespace: checked(Part::Namespace, namespace.into())?,
            service_account: checked(Part::ServiceAccount, service_account.into())?,
        })
    }

    /// The trust domain, such as `cluster.local`.
    #[must_use]
    pub fn trust_domain(&self) -> &Arc<str> {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// The Kubernetes service account.
    #[must_use]
    pub fn service_account(&self) -> &Arc<str> {
        &self.service_account
    }

    /// The same namespace and service account in another trust domain, whose name is one.
    pub(crate) fn within(self, trust_domain: Arc<str>) -> Self {
        Self {
            trust_domain,
            ..self
        }
    }

    /// The principal as policies write it: the SPIFFE id without `spiffe://`.
    #[must_use]
    pub fn principal(&self) -> String {
        format!(
            "{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEME}{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::Scheme)?;
        let mut segments = rest.split('/');
        let mut next = || segments.next();
        match (next(), next(), next(), next(), next(), next()) {
            (Some(td), Some("ns"), Some(ns), Some("sa"), Some(sa), None) => Self::new(td, ns, sa),
            _ => Err(IdentityError::Shape),
        }
    }
}

impl Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not an identity of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a SPIFFE URI.
    #[error("a SPIFFE id starts with spiffe://")]
    Scheme,
    /// Not `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    #[error("a SPIFFE id of the mesh reads spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    Shape,
    /// An empty part or a character that SPIFFE does not allow.
    #[error("the {0} of a SPIFFE id is one or more of A-Z a-z 0-9 . _ -")]
    Part(Part),
}

/// The parts of an [`Identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Before the first slash.
    TrustDomain,
    /// After `/ns/`.
    Namespace,
    /// After `/sa/`.
    ServiceAccount,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrustDomain => "trust domain",
            Self::Namespace => "namespace",
            Self::ServiceAccount => "service account",
        })
    }
}

fn checked(part: Part, text: Arc<str>) -> Result<Arc<str>, IdentityError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(IdentityError::Part(part));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_mesh_form() {
        let text = "spiffe://cluster.local/ns/shop/sa/web-1";
        let id: Identity = text.parse().expect("valid");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.principal(), "cluster.local/ns/shop/sa/web-1");
        assert_eq!(&**id.namespace(), "shop");
    }

    #[test]
    fn refuses_everything_else() {
        use IdentityError as E;
        let cases = [
            ("https://cluster.local/ns/a/sa/b", E::Scheme),
            ("SPIFFE://cluster.local/ns/a/sa/b", E::Scheme),
            ("spiffe://cluster.local/ns/a/sa", E::Shape),
            ("spiffe://cluster.local/ns/a/sa/b/c", E::Shape),
            ("spiffe://cluster.local/ns/a/sa/b/", E::Shape),
            ("spiffe://cluster.local/sa/b/ns/a", E::Shape),
            ("spiffe://cluster.local//ns/a/sa/b", E::Shape),
            ("spiffe:///ns/a/sa/b", E::Part(Part::TrustDomain)),
            (
                "spiffe://cluster.local:1/ns/a/sa/b",
                E::Part(Part::TrustDomain),
            ),
            ("spiffe://cluster.local/ns//sa/b", E::Part(Part::Namespace)),
            (
                "spiffe://cluster.local/ns/a%2fb/sa/b",
                E::Part(Part::Namespace),
            ),
            (
                "spiffe://cluster.local/ns/a/sa/b?x",
                E::Part(Part::ServiceAccount),
            ),
            (
                "spiffe://cluster.local/ns/a/sa/b\0",
                E::Part(Part::ServiceAccount),
            ),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Identity>(), Err(error), "{text:?}");
        }
    }
}
