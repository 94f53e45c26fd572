//! What a verified token says.

use std::sync::Arc;

use serde_json::{Map, Value};

/// Claims whose values are lists of words in one text, as Istio reads them.
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

/// The claims of a token whose signature, issuer, audience and times have been checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Those of a token that somebody has verified; outside of tests that is
    /// [`authenticate`](super::authenticate).
    #[must_use]
    pub fn verified(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// `azp`, the party the token was given to.
    #[must_use]
    pub fn presenter(&self) -> Option<&str> {
        self.text("azp")
    }

    /// `aud`, a text or a list of them.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        texts(self.0.get("aud"))
    }

    /// `issuer/subject` for logs; `None` when one of them is missing.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        let (issuer, subject) = (self.issuer()?, self.subject()?);
        (!issuer.is_empty() && !subject.is_empty()).then(|| format!("{issuer}/{subject}"))
    }

    /// Whether `holds` for a value at this path, from the outside in: a scalar as text, or one of the
    /// scalars of a list, or one of the words of `scope` and `permission`. Without it: no.
    pub fn any(&self, path: &[Arc<str>], holds: impl Fn(&str) -> bool) -> bool {
        let scalar = |value: &Value| match value {
            Value::String(text) => holds(text),
            Value::Bool(true) => holds("true"),
            Value::Bool(false) => holds("false"),
            Value::Number(number) => holds(&number.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match (self.at(path), path) {
            (Some(Value::String(words)), [name]) if SPACE_DELIMITED.contains(&&**name) => {
                let mut words = words.split(' ').filter(|word| !word.is_empty());
                words.any(&holds)
            }
            (Some(Value::Array(list)), _) => list.iter().any(scalar),
            (Some(value), _) => scalar(value),
            (None, _) => false,
        }
    }

    /// The value at this path, from the outside in.
    #[must_use]
    pub fn at(&self, path: &[Arc<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let first = self.0.get(&**first)?;
        rest.iter()
            .try_fold(first, |value, name| value.as_object()?.get(&**name))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

/// The text, or the texts of the list.
fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, list) = match value {
        Some(Value::String(text)) => (Some(&**text), &[][..]),
        Some(Value::Array(list)) => (None, &list[..]),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(list.iter().filter_map(Value::as_str))
}
