//! `ambit.waypoint.Filter`.

use std::sync::Arc;

use ambit_core::convert::ConvertError;
use ambit_core::convert::error::{At, each, known};
use ambit_proto::waypoint as proto;
use http::{HeaderName, HeaderValue};
use proto::filter::Kind;

use super::value::{
    backend, duration, header_name, name, optional_port, shared, wire_backend, wire_duration,
    wire_headers, wire_name, wire_texts, within,
};
use crate::model::Filter;
use crate::model::route::{
    Cors, Fault, HeaderEdits, Mirror, PathEdit, RateLimit, RateLimitScope, Redirect, Rewrite,
};

const MILLION: u32 = 1_000_000;

pub(super) fn filter(wire: &proto::Filter) -> Result<Filter, ConvertError> {
    match &wire.kind {
        Some(Kind::RequestHeaders(it)) => {
            edits(it).map(Filter::RequestHeaders).at("request_headers")
        }
        Some(Kind::ResponseHeaders(it)) => edits(it)
            .map(Filter::ResponseHeaders)
            .at("response_headers"),
        Some(Kind::Redirect(it)) => redirect(it).map(Filter::Redirect).at("redirect"),
        Some(Kind::Rewrite(it)) => rewrite(it).map(Filter::Rewrite).at("rewrite"),
        Some(Kind::Mirror(it)) => mirror(it).map(Filter::Mirror).at("mirror"),
        Some(Kind::Cors(it)) => Ok(Filter::Cors(cors(it))),
        Some(Kind::ExternalAuth(it)) => name("external_auth", Some(it)).map(Filter::ExternalAuth),
        Some(Kind::RateLimit(it)) => rate_limit(it).map(Filter::RateLimit).at("rate_limit"),
        Some(Kind::Fault(it)) => fault(it).map(Filter::Fault).at("fault"),
        None => Err(ConvertError::new("", (), "a known filter")),
    }
}

fn edits(wire: &proto::HeaderEdits) -> Result<HeaderEdits, ConvertError> {
    Ok(HeaderEdits {
        set: each("set", &wire.set, header)?,
        add: each("add", &wire.add, header)?,
        remove: each("remove", &wire.remove, |name| header_name(name))?,
    })
}

fn header(wire: &proto::Header) -> Result<(HeaderName, HeaderValue), ConvertError> {
    let name = header_name(&wire.name).at("name")?;
    let value = HeaderValue::from_bytes(&wire.value)
        .map_err(|_| ConvertError::new("value", &wire.value, "the value of a header"))?;
    Ok((name, value))
}

fn redirect(wire: &proto::Redirect) -> Result<Redirect, ConvertError> {
    let status = match wire.status {
        301 | 302 | 303 | 307 | 308 => within("status", wire.status, 301..=308, "")?,
        other => {
            let expected = "301, 302, 303, 307 or 308";
            return Err(ConvertError::new("status", other, expected));
        }
    };
    let scheme = match wire.scheme.as_deref() {
        None => None,
        Some(scheme @ ("http" | "https")) => Some(Arc::from(scheme)),
        Some(other) => return Err(ConvertError::new("scheme", other, "http or https")),
    };
    Ok(Redirect {
        scheme,
        hostname: hostname(wire.hostname.as_deref())?,
        port: optional_port("port", wire.port)?,
        path: wire.path.as_ref().map(path_edit).transpose().at("path")?,
        status,
    })
}

fn rewrite(wire: &proto::Rewrite) -> Result<Rewrite, ConvertError> {
    Ok(Rewrite {
        hostname: hostname(wire.hostname.as_deref())?,
        path: wire.path.as_ref().map(path_edit).transpose().at("path")?,
    })
}

fn hostname(text: Option<&str>) -> Result<Option<Arc<str>>, ConvertError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    match text {
        Some(name) if name.is_empty() || !name.bytes().all(allowed) => {
            Err(ConvertError::new("hostname", name, "a host name"))
        }
        other => Ok(other.map(Arc::from)),
    }
}

fn path_edit(wire: &proto::PathEdit) -> Result<PathEdit, ConvertError> {
    use proto::path_edit::Edit;
    let path = |text: &str| -> Result<Arc<str>, ConvertError> {
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(text.into())
        } else {
            let expected = "a path without spaces and control characters";
            Err(ConvertError::new("", text, expected))
        }
    };
    match &wire.edit {
        Some(Edit::Full(text)) => path(text).map(PathEdit::Full),
        Some(Edit::Prefix(text)) => path(text).map(PathEdit::Prefix),
        None => Err(ConvertError::new("", (), "full or prefix")),
    }
}

fn mirror(wire: &proto::Mirror) -> Result<Mirror, ConvertError> {
    if wire.denominator == 0 || wire.numerator > wire.denominator {
        let found = format!("{}/{}", wire.numerator, wire.denominator);
        return Err(ConvertError::new("numerator, denominator", found, "0 to 1"));
    }
    Ok(Mirror {
        backend: backend(wire.backend.as_ref())?,
        numerator: wire.numerator,
        denominator: wire.denominator,
    })
}

fn cors(wire: &proto::Cors) -> Cors {
    Cors {
        allow_origins: shared(&wire.allow_origins),
        allow_credentials: wire.allow_credentials,
        allow_methods: shared(&wire.allow_methods),
        allow_headers: shared(&wire.allow_headers),
        expose_headers: shared(&wire.expose_headers),
        max_age: wire.max_age,
    }
}

fn rate_limit(wire: &proto::RateLimit) -> Result<RateLimit, ConvertError> {
    let requests = within("requests", wire.requests, 1..=u32::MAX, "at least 1")?;
    let interval = duration("interval", wire.interval.as_ref())?;
    if interval.is_zero() {
        return Err(ConvertError::new("interval", interval, "more than 0s"));
    }
    Ok(RateLimit {
        key: name("key", wire.key.as_ref())?,
        requests,
        interval,
        burst: within(
            "burst",
            wire.burst,
            requests..=u32::MAX,
            "at least `requests`",
        )?,
        per: match known("per", wire.per, "ROUTE or CLIENT")? {
            proto::RateLimitScope::Route => RateLimitScope::Route,
            proto::RateLimitScope::Client => RateLimitScope::Client,
            proto::RateLimitScope::Unspecified => {
                return Err(ConvertError::new("per", (), "ROUTE or CLIENT"));
            }
        },
    })
}

fn fault(wire: &proto::Fault) -> Result<Fault, ConvertError> {
    let share = |field, share| within(field, share, 0..=MILLION, "0 to 1000000");
    let delay = wire.delay.as_ref().map(|delay| {
        let duration = duration("delay.duration", delay.duration.as_ref())?;
        Ok((duration, share("delay.share", delay.share)?))
    });
    let abort = wire.abort.as_ref().map(|abort| {
        let status = within("abort.status", abort.status, 200..=599, "200 to 599")?;
        Ok((status, share("abort.share", abort.share)?))
    });
    Ok(Fault {
        delay: delay.transpose()?,
        abort: abort.transpose()?,
    })
}

pub(super) fn wire_filter(filter: &Filter) -> proto::Filter {
    let kind = match filter {
        Filter::RequestHeaders(it) => Kind::RequestHeaders(wire_edits(it)),
        Filter::ResponseHeaders(it) => Kind::ResponseHeaders(wire_edits(it)),
        Filter::Redirect(it) => Kind::Redirect(proto::Redirect {
            scheme: it.scheme.as_deref().map(str::to_owned),
            hostname: it.hostname.as_deref().map(str::to_owned),
            port: it.port.map(u32::from),
            path: it.path.as_ref().map(wire_path),
            status: it.status.into(),
        }),
        Filter::Rewrite(it) => Kind::Rewrite(proto::Rewrite {
            hostname: it.hostname.as_deref().map(str::to_owned),
            path: it.path.as_ref().map(wire_path),
        }),
        Filter::Mirror(it) => Kind::Mirror(proto::Mirror {
            backend: Some(wire_backend(&it.backend)),
            numerator: it.numerator,
            denominator: it.denominator,
        }),
        Filter::Cors(it) => Kind::Cors(proto::Cors {
            allow_origins: wire_texts(&it.allow_origins),
            allow_credentials: it.allow_credentials,
            allow_methods: wire_texts(&it.allow_methods),
            allow_headers: wire_texts(&it.allow_headers),
            expose_headers: wire_texts(&it.expose_headers),
            max_age: it.max_age,
        }),
        Filter::ExternalAuth(key) => Kind::ExternalAuth(wire_name(key)),
        Filter::RateLimit(it) => Kind::RateLimit(proto::RateLimit {
            key: Some(wire_name(&it.key)),
            requests: it.requests,
            interval: Some(wire_duration(it.interval)),
            burst: it.burst,
            per: match it.per {
                RateLimitScope::Route => proto::RateLimitScope::Route,
                RateLimitScope::Client => proto::RateLimitScope::Client,
            }
            .into(),
        }),
        Filter::Fault(it) => Kind::Fault(proto::Fault {
            delay: it.delay.map(|(duration, share)| proto::Delay {
                duration: Some(wire_duration(duration)),
                share,
            }),
            abort: it.abort.map(|(status, share)| proto::Abort {
                status: status.into(),
                share,
            }),
        }),
    };
    proto::Filter { kind: Some(kind) }
}

fn wire_edits(edits: &HeaderEdits) -> proto::HeaderEdits {
    let headers = |pairs: &[(HeaderName, HeaderValue)]| {
        let headers = pairs.iter().map(|(name, value)| proto::Header {
            name: name.to_string(),
            value: value.as_bytes().to_vec().into(),
        });
        headers.collect()
    };
    proto::HeaderEdits {
        set: headers(&edits.set),
        add: headers(&edits.add),
        remove: wire_headers(&edits.remove),
    }
}

fn wire_path(edit: &PathEdit) -> proto::PathEdit {
    use proto::path_edit::Edit;
    proto::PathEdit {
        edit: Some(match edit {
            PathEdit::Full(text) => Edit::Full(text.to_string()),
            PathEdit::Prefix(text) => Edit::Prefix(text.to_string()),
        }),
    }
}
