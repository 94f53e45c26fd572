//! Redirects and rewrites (Gateway API HTTPRequestRedirectFilter, HTTPURLRewriteFilter).

use http::{HeaderValue, StatusCode};

use super::RequestHead;
use super::table::Matched;
use crate::model::route::{PathEdit, Redirect};
use crate::path::{CanonicalPath, PathError};

/// The answer of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirected {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// An absolute URL.
    pub location: HeaderValue,
}

/// Where a redirect leads. A port is left out when it is the scheme's own; without one in the
/// filter it is that of a scheme the filter names, else the request's.
pub(super) fn redirect(
    redirect: &Redirect,
    matched: &Matched,
    head: &RequestHead<'_>,
) -> Result<Redirected, String> {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    let own = match scheme {
        "https" => 443,
        _ => 80,
    };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => Some(port),
        (None, Some(_)) => None,
        (None, None) => head.host.port(),
    };
    let port = match port.filter(|port| *port != own) {
        Some(port) => format!(":{port}"),
        None => String::new(),
    };
    let host = redirect.hostname.as_deref().unwrap_or(head.host.name());
    let rewritten;
    let target = match &redirect.path {
        Some(edit) => {
            rewritten = rewrite(edit, matched, head.path).map_err(|error| error.to_string())?;
            &rewritten
        }
        None => head.path,
    };
    let location = HeaderValue::try_from(format!("{scheme}://{host}{port}{target}"))
        .map_err(|_| "its redirect gives no URL".to_owned())?;
    let status = StatusCode::from_u16(redirect.status)
        .map_err(|_| format!("{} is no status of a redirect", redirect.status))?;
    Ok(Redirected { status, location })
}

/// A new path with the query of the old one. A prefix is replaced by whole elements: `/` never
/// doubles and never vanishes.
pub(super) fn rewrite(
    edit: &PathEdit,
    matched: &Matched,
    path: &CanonicalPath,
) -> Result<CanonicalPath, PathError> {
    match (edit, matched) {
        (PathEdit::Full(full), _) => path.with_path(full),
        // Only rules whose matches are prefixes may have this edit; control sees to it.
        (PathEdit::Prefix(prefix), Matched::Whole) => path.with_path(prefix),
        (PathEdit::Prefix(prefix), Matched::Prefix(length)) => {
            let rest = &path.path()[*length..];
            let prefix = prefix.trim_end_matches('/');
            match (prefix, rest) {
                ("", "") => path.with_path("/"),
                _ => path.with_path(&format!("{prefix}{rest}")),
            }
        }
    }
}
