//! Values that several resources share.

use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::convert::ConvertError;
use ambit_core::convert::error::{At, port};
use ambit_proto::waypoint as proto;
use http::HeaderName;

use crate::model::route::BackendRef;
use crate::model::{Target, TextMatch};

/// A message or value that must be there.
pub(super) fn required<'a, T>(
    field: &str,
    value: Option<&'a T>,
    expected: &'static str,
) -> Result<&'a T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, (), expected))
}

pub(super) fn name(
    field: &str,
    wire: Option<&proto::Name>,
) -> Result<NamespacedName, ConvertError> {
    let wire = required(field, wire, "a namespace and a name")?;
    let bad = |text: &str| text.is_empty() || text.contains('/');
    if bad(&wire.namespace) || bad(&wire.name) {
        let found = format!("{}/{}", wire.namespace, wire.name);
        return Err(ConvertError::new(field, found, "a namespace and a name"));
    }
    Ok(NamespacedName::new(
        wire.namespace.as_str(),
        wire.name.as_str(),
    ))
}

pub(super) fn wire_name(name: &NamespacedName) -> proto::Name {
    proto::Name {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
    }
}

/// A text that is not empty.
pub(super) fn filled(field: &str, text: &str) -> Result<Arc<str>, ConvertError> {
    if text.is_empty() {
        return Err(ConvertError::new(field, text, "a text"));
    }
    Ok(text.into())
}

/// A port, or all of them.
pub(super) fn optional_port(field: &str, wire: Option<u32>) -> Result<Option<u16>, ConvertError> {
    wire.map(|number| port(field, number)).transpose()
}

/// A number within bounds.
pub(super) fn within<T: TryFrom<u32>>(
    field: &str,
    number: u32,
    bounds: std::ops::RangeInclusive<u32>,
    expected: &'static str,
) -> Result<T, ConvertError> {
    T::try_from(number)
        .ok()
        .filter(|_| bounds.contains(&number))
        .ok_or_else(|| ConvertError::new(field, number, expected))
}

pub(super) fn duration(
    field: &str,
    wire: Option<&prost_types::Duration>,
) -> Result<Duration, ConvertError> {
    optional_duration(field, wire)?.ok_or_else(|| ConvertError::new(field, (), "a duration"))
}

pub(super) fn optional_duration(
    field: &str,
    wire: Option<&prost_types::Duration>,
) -> Result<Option<Duration>, ConvertError> {
    let Some(wire) = wire else { return Ok(None) };
    match (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => {
            Ok(Some(Duration::new(seconds, nanos)))
        }
        _ => {
            let found = format!("{}s {}ns", wire.seconds, wire.nanos);
            Err(ConvertError::new(field, found, "a duration of 0 or more"))
        }
    }
}

pub(super) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("less than a second"),
    }
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, ConvertError> {
    text.parse()
        .map_err(|_| ConvertError::new("", text, "the name of a header"))
}

pub(super) fn wire_headers(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(super) fn text(wire: &proto::Text) -> Result<TextMatch, ConvertError> {
    use proto::text::Match;
    match &wire.r#match {
        Some(Match::Exact(text)) => Ok(TextMatch::Exact(text.as_str().into())),
        Some(Match::Prefix(text)) => Ok(TextMatch::Prefix(text.as_str().into())),
        Some(Match::Suffix(text)) => Ok(TextMatch::Suffix(text.as_str().into())),
        Some(Match::Present(_)) => Ok(TextMatch::Present),
        None => Err(ConvertError::new(
            "",
            (),
            "exact, prefix, suffix or present",
        )),
    }
}

pub(super) fn wire_text(text: &TextMatch) -> proto::Text {
    use proto::text::Match;
    let found = match text {
        TextMatch::Exact(text) => Match::Exact(text.to_string()),
        TextMatch::Prefix(text) => Match::Prefix(text.to_string()),
        TextMatch::Suffix(text) => Match::Suffix(text.to_string()),
        TextMatch::Present => Match::Present(proto::Empty {}),
    };
    proto::Text {
        r#match: Some(found),
    }
}

pub(super) fn targets(wire: &[proto::Target]) -> Result<Vec<Target>, ConvertError> {
    if wire.is_empty() {
        return Err(ConvertError::new("targets", (), "at least one target"));
    }
    ambit_core::convert::error::each("targets", wire, target)
}

fn target(wire: &proto::Target) -> Result<Target, ConvertError> {
    use proto::target::Kind;
    match &wire.kind {
        Some(Kind::Mesh(_)) => Ok(Target::Mesh),
        Some(Kind::Waypoint(it)) => name("waypoint", Some(it)).map(Target::Waypoint),
        Some(Kind::Service(it)) => name("service", Some(it)).map(Target::Service),
        None => Err(ConvertError::new("", (), "mesh, waypoint or service")),
    }
}

pub(super) fn wire_targets(targets: &[Target]) -> Vec<proto::Target> {
    use proto::target::Kind;
    let kinds = targets.iter().map(|target| match target {
        Target::Mesh => Kind::Mesh(proto::Empty {}),
        Target::Waypoint(it) => Kind::Waypoint(wire_name(it)),
        Target::Service(it) => Kind::Service(wire_name(it)),
    });
    kinds
        .map(|kind| proto::Target { kind: Some(kind) })
        .collect()
}

pub(super) fn backend(wire: Option<&proto::Backend>) -> Result<BackendRef, ConvertError> {
    use proto::backend::Kind;
    let backend = match wire.and_then(|wire| wire.kind.as_ref()) {
        Some(Kind::Service(it)) => {
            let service = name("service", it.service.as_ref()).at("service");
            service.and_then(|service| {
                let port = port("service.port", it.port)?;
                Ok(BackendRef::Service { service, port })
            })
        }
        Some(Kind::Invalid(reason)) => Ok(BackendRef::Invalid {
            reason: reason.as_str().into(),
        }),
        None => Err(ConvertError::new("", (), "a service or a reason")),
    };
    backend.at("backend")
}

pub(super) fn wire_backend(backend: &BackendRef) -> proto::Backend {
    use proto::backend::Kind;
    let kind = match backend {
        BackendRef::Service { service, port } => Kind::Service(proto::ServicePort {
            service: Some(wire_name(service)),
            port: (*port).into(),
        }),
        BackendRef::Invalid { reason } => Kind::Invalid(reason.to_string()),
    };
    proto::Backend { kind: Some(kind) }
}

pub(super) fn wire_texts(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

pub(super) fn shared(texts: &[String]) -> Vec<Arc<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}
