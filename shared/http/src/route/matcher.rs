//! Whether one match of a rule fits a request, and which of two goes first.

use std::cmp::Reverse;
use std::sync::Arc;

use http::HeaderMap;

use super::RequestHead;
use super::query;
use crate::model::RouteRule;
use crate::model::route::{HeaderMatch, PathMatch, RouteMatch, ValueMatch};

/// A match of a rule; its path has been looked at by the table already, unless it is a regular
/// expression.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) rule: Arc<RouteRule>,
    index: Option<usize>,
}

/// What is compared, the one that goes first is the least.
type Rank<'a> = (
    Reverse<usize>,
    Reverse<bool>,
    Reverse<usize>,
    Reverse<usize>,
    i64,
    (&'a str, &'a str),
    u16,
    usize,
);

const EVERYTHING: &RouteMatch = &RouteMatch {
    path: None,
    method: None,
    headers: Vec::new(),
    query: Vec::new(),
};

impl Candidate {
    /// All matches of a rule; a rule without matches everything.
    pub(super) fn all(rule: &Arc<RouteRule>) -> impl Iterator<Item = Self> {
        let indexes: Vec<Option<usize>> = match rule.matches.len() {
            0 => vec![None],
            count => (0..count).map(Some).collect(),
        };
        let rule = rule.clone();
        indexes.into_iter().map(move |index| Self {
            rule: rule.clone(),
            index,
        })
    }

    pub(super) fn condition(&self) -> &RouteMatch {
        self.index
            .map_or(EVERYTHING, |index| &self.rule.matches[index])
    }

    /// Whether all but an exact path or a prefix holds.
    pub(super) fn fits(&self, head: &RequestHead<'_>) -> bool {
        let condition = self.condition();
        let path = match &condition.path {
            Some(PathMatch::Regex(regex)) => regex.matches(head.path.path()),
            _ => true,
        };
        path && condition.method.as_ref().is_none_or(|it| it == head.method)
            && condition
                .headers
                .iter()
                .all(|it| header_fits(it, head.headers))
            && condition.query.iter().all(|it| {
                let value = query::first(head.path.query().unwrap_or_default(), &it.name);
                value.is_some_and(|value| value_fits(&it.value, &value))
            })
    }

    /// The order within one exact path or prefix, and among regular expressions (longer first).
    pub(super) fn rank(&self) -> Rank<'_> {
        let condition = self.condition();
        let regex = match &condition.path {
            Some(PathMatch::Regex(regex)) => regex.as_str().len(),
            _ => 0,
        };
        let key = &self.rule.key;
        // An object of unknown age is young.
        let created = match self.rule.created {
            0 => i64::MAX,
            seconds => seconds,
        };
        (
            Reverse(regex),
            Reverse(condition.method.is_some()),
            Reverse(condition.headers.len()),
            Reverse(condition.query.len()),
            created,
            (&key.route.namespace, &key.route.name),
            key.rule,
            self.index.unwrap_or_default(),
        )
    }
}

fn value_fits(wanted: &ValueMatch, value: &str) -> bool {
    match wanted {
        ValueMatch::Exact(text) => **text == *value,
        ValueMatch::Regex(regex) => regex.matches(value),
    }
}

/// A repeated header is judged as one list (RFC 9110 section 5.3).
fn header_fits(wanted: &HeaderMatch, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(&wanted.name).iter();
    let Some(first) = values.next() else {
        return false;
    };
    let mut joined = String::new();
    let mut value = first.to_str();
    for more in values {
        let (Ok(so_far), Ok(more)) = (value, more.to_str()) else {
            return false;
        };
        if joined.is_empty() {
            joined.push_str(so_far);
        }
        joined.push(',');
        joined.push_str(more);
        value = Ok("");
    }
    match value {
        Ok(value) if joined.is_empty() => value_fits(&wanted.value, value),
        Ok(_) => value_fits(&wanted.value, &joined),
        Err(_) => false,
    }
}
