//! `ambit.waypoint.Authentication`.

use ambit_core::convert::ConvertError;
use ambit_core::convert::error::{At, each};
use ambit_proto::waypoint as proto;

use super::value::{
    backend, filled, header_name, name, required, shared, targets, wire_backend, wire_name,
    wire_targets, wire_texts,
};
use crate::model::{JwtRule, KeySource, RequestAuthentication, TokenSource};

pub(super) fn authentication(
    wire: &proto::Authentication,
) -> Result<RequestAuthentication, ConvertError> {
    Ok(RequestAuthentication {
        key: name("key", wire.key.as_ref())?,
        targets: targets(&wire.targets)?,
        rules: each("rules", &wire.rules, rule)?,
        undecodable: wire.undecodable.as_deref().map(Into::into),
    })
}

/// One that refuses every token.
pub(super) fn refusing(
    wire: &proto::Authentication,
    reason: &str,
) -> Option<RequestAuthentication> {
    Some(RequestAuthentication {
        key: name("key", wire.key.as_ref()).ok()?,
        targets: targets(&wire.targets).ok()?,
        rules: Vec::new(),
        undecodable: Some(reason.into()),
    })
}

fn rule(wire: &proto::JwtRule) -> Result<JwtRule, ConvertError> {
    Ok(JwtRule {
        issuer: filled("issuer", &wire.issuer)?,
        audiences: shared(&wire.audiences),
        keys: keys(wire.keys.as_ref()).at("keys")?,
        sources: each("sources", &wire.sources, token_source)?,
        forward: wire.forward,
        payload_header: wire
            .payload_header
            .as_deref()
            .map(header_name)
            .transpose()
            .at("payload_header")?,
        claim_headers: each("claim_headers", &wire.claim_headers, |header| {
            let name = header_name(&header.name).at("name")?;
            if header.claim.is_empty() {
                return Err(ConvertError::new("claim", (), "at least one name"));
            }
            Ok((name, shared(&header.claim)))
        })?,
    })
}

fn keys(wire: Option<&proto::Keys>) -> Result<KeySource, ConvertError> {
    use proto::keys::Source;
    let source = wire.and_then(|wire| wire.source.as_ref());
    Ok(
        match required("", source, "inline keys, a service or a URL")? {
            Source::Inline(text) => KeySource::Inline(filled("inline", text)?),
            Source::Service(it) => KeySource::Service {
                backend: backend(it.backend.as_ref()).at("service")?,
                host: filled("service.host", &it.host)?,
                path: filled("service.path", &it.path)?,
            },
            Source::Url(text) => KeySource::Url(filled("url", text)?),
        },
    )
}

fn token_source(wire: &proto::TokenSource) -> Result<TokenSource, ConvertError> {
    use proto::token_source::Kind;
    Ok(
        match required("", wire.kind.as_ref(), "header, query or cookie")? {
            Kind::Header(it) => TokenSource::Header {
                name: header_name(&it.name).at("header.name")?,
                prefix: it.prefix.as_str().into(),
            },
            Kind::Query(name) => TokenSource::Query(filled("query", name)?),
            Kind::Cookie(name) => TokenSource::Cookie(filled("cookie", name)?),
        },
    )
}

impl From<&RequestAuthentication> for proto::Authentication {
    fn from(found: &RequestAuthentication) -> Self {
        Self {
            key: Some(wire_name(&found.key)),
            targets: wire_targets(&found.targets),
            rules: found.rules.iter().map(wire_rule).collect(),
            undecodable: found.undecodable.as_deref().map(str::to_owned),
        }
    }
}

fn wire_rule(rule: &JwtRule) -> proto::JwtRule {
    use proto::keys::Source;
    use proto::token_source::Kind;
    let source = match &rule.keys {
        KeySource::Inline(text) => Source::Inline(text.to_string()),
        KeySource::Service {
            backend,
            host,
            path,
        } => Source::Service(proto::KeysOfService {
            backend: Some(wire_backend(backend)),
            host: host.to_string(),
            path: path.to_string(),
        }),
        KeySource::Url(url) => Source::Url(url.to_string()),
    };
    let sources = rule.sources.iter().map(|source| proto::TokenSource {
        kind: Some(match source {
            TokenSource::Header { name, prefix } => Kind::Header(proto::TokenHeader {
                name: name.to_string(),
                prefix: prefix.to_string(),
            }),
            TokenSource::Query(name) => Kind::Query(name.to_string()),
            TokenSource::Cookie(name) => Kind::Cookie(name.to_string()),
        }),
    });
    let claims = rule.claim_headers.iter().map(|(name, claim)| {
        let (name, claim) = (name.to_string(), wire_texts(claim));
        proto::ClaimHeader { name, claim }
    });
    proto::JwtRule {
        issuer: rule.issuer.to_string(),
        audiences: wire_texts(&rule.audiences),
        keys: Some(proto::Keys {
            source: Some(source),
        }),
        sources: sources.collect(),
        forward: rule.forward,
        payload_header: rule.payload_header.as_ref().map(ToString::to_string),
        claim_headers: claims.collect(),
    }
}
