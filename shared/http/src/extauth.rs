//! External authorization: what an authorizer is asked, and what its answer means.
//!
//! Plain data; how it is written on the wire is the caller's business. An authorizer can change headers of the
//! request, but never the host, the framing or what only the proxy may say.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use ambit_core::identity::Identity;
use bytes::Bytes;
use http::header::{AUTHORIZATION, DATE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::headers::{is_frame, is_ours};
use crate::model::policy::{Authorizer, AuthorizerKind};
use crate::refusal::{Flag, Refusal};

/// What an authorizer is told of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Check<'a> {
    /// The verified identity of the caller.
    pub source: Option<&'a Identity>,
    /// Where it calls from.
    pub source_address: SocketAddr,
    /// What it addressed.
    pub destination: SocketAddr,
    #[allow(missing_docs)]
    pub method: &'a Method,
    #[allow(missing_docs)]
    pub host: &'a str,
    /// The canonical path with the query, as it will be forwarded.
    pub path: &'a str,
    #[allow(missing_docs)]
    pub headers: &'a HeaderMap,
    /// As much as [`Authorizer::body_limit`] asks for; see [`body_fits`].
    pub body: Bytes,
}

impl<'a> Check<'a> {
    /// The headers that this authorizer sees: all, or those of its list. One that is asked over HTTP gets
    /// `authorization` in any case (Gateway API, `HTTPExternalAuthFilter`). Host and framing are not among
    /// them: the host is told by itself, and the message to the authorizer has a frame of its own.
    pub fn headers_for<'s>(
        &'s self,
        authorizer: &'s Authorizer,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> + use<'s, 'a> {
        let wanted = &authorizer.request_headers;
        let core = matches!(authorizer.kind, AuthorizerKind::Http { .. });
        self.headers.iter().filter(move |(name, _)| {
            let listed = wanted.is_empty() || wanted.contains(name);
            (listed || core && **name == AUTHORIZATION) && !is_frame(name)
        })
    }

    /// The path an HTTP authorizer with this prefix is asked at.
    #[must_use]
    pub fn path_below(&self, prefix: &str) -> String {
        format!("{}{}", prefix.trim_end_matches('/'), self.path)
    }
}

/// Whether a body that is this long so far can be sent to the authorizer.
///
/// # Errors
/// 413: what was not looked at does not pass.
pub fn body_fits(authorizer: &Authorizer, length: usize) -> Result<(), Refusal> {
    let limit = authorizer.body_limit;
    if limit == 0 || u64::from(limit) >= length as u64 {
        return Ok(());
    }
    let reason = format!(
        "the body is longer than the {limit} bytes that authorizer {} takes",
        authorizer.key
    );
    Err(Refusal::new(413, Flag::ExternalAuthDenied, reason))
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP authorizer's, whatever its status.
    Http(Reply),
    /// A gRPC authorizer's OK.
    Ok(Changes),
    /// A gRPC authorizer's denial.
    Denied(Reply),
    /// None: not reachable, too slow, not understood. What happened, for the log.
    Failed(String),
}

/// A status with headers and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What an authorizer does to a request that it allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Each replaces all values of its name; a name may occur several times.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Each adds a value.
    pub append: Vec<(HeaderName, HeaderValue)>,
    #[allow(missing_docs)]
    pub remove: Vec<HeaderName>,
    /// For the response to the client.
    pub response: Vec<(HeaderName, HeaderValue)>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Go on, after these changes.
    Allow(Changes),
    /// Answer this.
    Deny {
        /// Status, flag and the reason for the log.
        refusal: Refusal,
        #[allow(missing_docs)]
        headers: HeaderMap,
        #[allow(missing_docs)]
        body: Bytes,
    },
}

/// What an answer means. Without one, and for a server error of an HTTP authorizer, `fail_open` decides.
#[must_use]
pub fn decide(authorizer: &Authorizer, answer: Answer) -> Outcome {
    match answer {
        Answer::Ok(changes) => Outcome::Allow(permitted(authorizer, changes)),
        Answer::Http(reply) if reply.status == 200 => {
            let headers = reply.headers.iter().map(|(n, v)| (n.clone(), v.clone()));
            let set = headers.filter(|(name, _)| !is_message(name)).collect();
            let changes = Changes {
                set,
                ..Changes::default()
            };
            Outcome::Allow(permitted(authorizer, changes))
        }
        Answer::Http(reply) if reply.status >= 500 => {
            failed(authorizer, &format!("it answered {}", reply.status))
        }
        Answer::Http(reply) | Answer::Denied(reply) => denied(authorizer, reply),
        Answer::Failed(error) => failed(authorizer, &error),
    }
}

impl Changes {
    /// Makes the changes of the request: set, append, remove.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, _) in &self.set {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().chain(&self.append) {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// Without what an authorizer may not change, and what its list leaves out.
fn permitted(authorizer: &Authorizer, mut changes: Changes) -> Changes {
    let list = &authorizer.upstream_headers;
    let may = |name: &HeaderName| !is_ours(name) && !name.as_str().contains('_');
    let listed = |name: &HeaderName| may(name) && (list.is_empty() || list.contains(name));
    changes.set.retain(|(name, _)| listed(name));
    changes.append.retain(|(name, _)| listed(name));
    changes.remove.retain(may);
    changes.response.retain(|(name, _)| !is_message(name));
    changes
}

fn denied(authorizer: &Authorizer, reply: Reply) -> Outcome {
    let Reply {
        status,
        mut headers,
        body,
    } = reply;
    // An informational or successful status would read as an answer of the backend.
    let status = if (300..600).contains(&status) {
        status
    } else {
        403
    };
    let names: Vec<HeaderName> = headers.keys().filter(|n| is_ours(n)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    let reason = format!("denied by authorizer {} with {status}", authorizer.key);
    Outcome::Deny {
        refusal: Refusal::new(status, Flag::ExternalAuthDenied, reason),
        headers,
        body,
    }
}

fn failed(authorizer: &Authorizer, error: &str) -> Outcome {
    if authorizer.fail_open {
        // What the backend takes for the authorizer's word is not the client's to say.
        let silent = Changes {
            remove: authorizer.upstream_headers.clone(),
            ..Changes::default()
        };
        return Outcome::Allow(permitted(authorizer, silent));
    }
    let status = match authorizer.status_on_error {
        status @ 400..=599 => status,
        _ => 403,
    };
    let reason = format!("authorizer {} has not answered: {error}", authorizer.key);
    Outcome::Deny {
        refusal: Refusal::new(status, Flag::ExternalAuthDenied, reason),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

/// Whether a header describes one message and its connection, so that it means nothing in another.
fn is_message(name: &HeaderName) -> bool {
    is_ours(name) || [DATE, SERVER].contains(name) || name.as_str().starts_with("content-")
}
