//! Filters of a rule or of a backend.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::model::route::{Cors, HeaderEdits, Mirror, PathEdit, Redirect, Rewrite};
use ambit_http::model::{Filter, Resource};
use http::{HeaderName, HeaderValue};

use super::super::reference::{self, Referrer, Unresolved};
use super::super::view::View;
use super::super::{authorizer, extension, values};
use crate::source::gateway::LocalRef;
use crate::source::gateway::route;

/// The default of `HTTPCORSFilter.maxAge`, in seconds.
const CORS_MAX_AGE: i32 = 5;

/// Reads filters, and gathers what is wrong with them.
pub(super) struct Filters<'a, 'b> {
    view: &'a View<'b>,
    from: Referrer<'a>,
    /// Names what belongs to the rule; `None` at a backend.
    place: Option<String>,
    pub(super) invalid: Vec<String>,
    pub(super) unresolved: Vec<Unresolved>,
    pub(super) authorizers: Vec<Resource>,
}

impl<'a, 'b> Filters<'a, 'b> {
    pub(super) fn new(view: &'a View<'b>, from: Referrer<'a>, place: Option<String>) -> Self {
        Self {
            view,
            from,
            place,
            invalid: Vec::new(),
            unresolved: Vec::new(),
            authorizers: Vec::new(),
        }
    }

    /// Those that can be honoured; the others make the rule invalid.
    pub(super) fn read(&mut self, field: &str, filters: &[route::Filter]) -> Vec<Filter> {
        let mut found = Vec::new();
        for (at, filter) in filters.iter().enumerate() {
            match self.one(at, filter) {
                Ok(filter) => found.push(filter),
                Err(error) => self.invalid.push(format!("{field}[{at}]: {error}")),
            }
        }
        let redirects = found.iter().any(|f| matches!(f, Filter::Redirect(_)));
        if redirects && found.iter().any(|f| matches!(f, Filter::Rewrite(_))) {
            let error = format!("{field}: RequestRedirect and URLRewrite exclude each other");
            self.invalid.push(error);
        }
        found
    }

    fn one(&mut self, at: usize, filter: &route::Filter) -> Result<Filter, String> {
        let kind = filter.r#type.as_str();
        let missing = || format!("{kind}: its field is missing");
        let only_for_rules = matches!(
            kind,
            "RequestRedirect" | "CORS" | "ExternalAuth" | "ExtensionRef"
        );
        if self.place.is_none() && only_for_rules {
            return Err(format!("{kind} is not supported at a backend"));
        }
        match kind {
            "RequestHeaderModifier" => {
                let edits = filter
                    .request_header_modifier
                    .as_ref()
                    .ok_or_else(missing)?;
                header_edits(edits).map(Filter::RequestHeaders)
            }
            "ResponseHeaderModifier" => {
                let edits = filter
                    .response_header_modifier
                    .as_ref()
                    .ok_or_else(missing)?;
                header_edits(edits).map(Filter::ResponseHeaders)
            }
            "RequestRedirect" => redirect(filter.request_redirect.as_ref().ok_or_else(missing)?)
                .map(Filter::Redirect),
            "URLRewrite" => {
                rewrite(filter.url_rewrite.as_ref().ok_or_else(missing)?).map(Filter::Rewrite)
            }
            "RequestMirror" => self.mirror(filter.request_mirror.as_ref().ok_or_else(missing)?),
            "CORS" => cors(filter.cors.as_ref().ok_or_else(missing)?).map(Filter::Cors),
            "ExternalAuth" => {
                self.external_auth(at, filter.external_auth.as_ref().ok_or_else(missing)?)
            }
            "ExtensionRef" => self.extension(filter.extension_ref.as_ref().ok_or_else(missing)?),
            other => Err(format!("{other:?} is not supported")),
        }
    }

    fn mirror(&mut self, mirror: &route::Mirror) -> Result<Filter, String> {
        let (numerator, denominator) = match (mirror.percent, &mirror.fraction) {
            (Some(_), Some(_)) => return Err("percent and fraction exclude each other".to_owned()),
            (Some(percent), None) => (percent, 100),
            (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
            (None, None) => (1, 1),
        };
        let share = u32::try_from(numerator)
            .ok()
            .zip(u32::try_from(denominator).ok());
        let Some((numerator, denominator)) = share.filter(|(n, d)| *d > 0 && n <= d) else {
            return Err(format!("{numerator} of {denominator} is no share"));
        };
        let (backend, unresolved) = reference::backend(self.view, self.from, &mirror.backend_ref);
        self.unresolved.extend(unresolved);
        Ok(Filter::Mirror(Mirror {
            backend,
            numerator,
            denominator,
        }))
    }

    fn external_auth(&mut self, at: usize, auth: &route::ExternalAuth) -> Result<Filter, String> {
        let place = self.place.as_deref().unwrap_or_default();
        let key = NamespacedName::new(self.from.namespace, format!("{place}:{at}"));
        let (found, unresolved) = authorizer::of_filter(key.clone(), auth, self.from, self.view)?;
        self.unresolved.extend(unresolved);
        self.authorizers.push(Resource::Authorizer(Arc::new(found)));
        Ok(Filter::ExternalAuth(key))
    }

    fn extension(&mut self, reference: &LocalRef) -> Result<Filter, String> {
        extension::filter(self.from.namespace, reference, self.view).map_err(|unresolved| {
            let message = unresolved.message.clone();
            self.unresolved.push(unresolved);
            message
        })
    }
}

fn header_edits(edits: &route::HeaderEdits) -> Result<HeaderEdits, String> {
    let pairs = |headers: &[route::Header]| -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let pairs = headers.iter().map(|header| {
            let value = HeaderValue::from_str(&header.value)
                .map_err(|_| format!("{:?} is not the value of a header", header.value))?;
            Ok((values::header(&header.name)?, value))
        });
        pairs.collect()
    };
    let remove = edits.remove.iter().map(|name| values::header(name));
    Ok(HeaderEdits {
        set: pairs(&edits.set)?,
        add: pairs(&edits.add)?,
        remove: remove.collect::<Result<_, _>>()?,
    })
}

fn redirect(wanted: &route::Redirect) -> Result<Redirect, String> {
    let status = wanted.status_code.unwrap_or(302);
    let status = match status {
        301 | 302 | 303 | 307 | 308 => u16::try_from(status).unwrap_or(302),
        other => {
            return Err(format!(
                "statusCode {other} is not 301, 302, 303, 307 or 308"
            ));
        }
    };
    let scheme = match wanted.scheme.as_deref() {
        Some(scheme @ ("http" | "https")) => Some(scheme.into()),
        None => None,
        Some(other) => return Err(format!("scheme {other:?} is not http or https")),
    };
    let port = match wanted.port {
        None => None,
        Some(port) => match u16::try_from(port).ok().filter(|port| *port > 0) {
            Some(port) => Some(port),
            None => return Err(format!("port {port} is not 1 to 65535")),
        },
    };
    Ok(Redirect {
        scheme,
        hostname: hostname(wanted.hostname.as_deref())?,
        port,
        path: wanted.path.as_ref().map(path_edit).transpose()?,
        status,
    })
}

fn rewrite(wanted: &route::Rewrite) -> Result<Rewrite, String> {
    Ok(Rewrite {
        hostname: hostname(wanted.hostname.as_deref())?,
        path: wanted.path.as_ref().map(path_edit).transpose()?,
    })
}

fn hostname(wanted: Option<&str>) -> Result<Option<Arc<str>>, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    match wanted {
        Some(name) if name.is_empty() || !name.bytes().all(allowed) => {
            Err(format!("hostname {name:?} is not a host name"))
        }
        other => Ok(other.map(Arc::from)),
    }
}

fn path_edit(wanted: &route::PathEdit) -> Result<PathEdit, String> {
    let path = |field: &str, value: &Option<String>| match value.as_deref() {
        None => Err(format!("path.{field} is missing")),
        Some(path)
            if path
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'#' && b != b'?') =>
        {
            Ok(path.into())
        }
        Some(path) => Err(format!("path.{field}: {path:?} is not a path")),
    };
    match wanted.r#type.as_str() {
        "ReplaceFullPath" => path("replaceFullPath", &wanted.replace_full_path).map(PathEdit::Full),
        "ReplacePrefixMatch" => {
            path("replacePrefixMatch", &wanted.replace_prefix_match).map(PathEdit::Prefix)
        }
        other => Err(format!("path.type {other:?} is not known")),
    }
}

fn cors(wanted: &route::Cors) -> Result<Cors, String> {
    let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    for header in wanted.allow_headers.iter().chain(&wanted.expose_headers) {
        if header != "*" {
            values::header(header)?;
        }
    }
    let max_age = wanted.max_age.unwrap_or(CORS_MAX_AGE);
    Ok(Cors {
        allow_origins: texts(&wanted.allow_origins),
        allow_credentials: wanted.allow_credentials.unwrap_or_default(),
        allow_methods: texts(&wanted.allow_methods),
        allow_headers: texts(&wanted.allow_headers),
        expose_headers: texts(&wanted.expose_headers),
        max_age: u32::try_from(max_age).map_err(|_| format!("maxAge {max_age} is negative"))?,
    })
}
