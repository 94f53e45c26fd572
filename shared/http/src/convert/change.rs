//! Whole resources: their bytes, their names, and the changes they stand for.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::convert::ConvertError;
use ambit_proto::waypoint as proto;
use prost::Message;
use proto::resource::Kind;

use super::{authentication, policy, route, traffic};
use crate::config::Change;
use crate::model::route::{Protocol, RouteKey};
use crate::model::{Resource, ResourceKey};

/// The change that the resource `name` stands for, with the error to report when it does not decode.
/// Even then it is a change: what it is attached to is refused.
#[must_use]
pub fn change(name: &str, bytes: &[u8]) -> (Change, Option<ConvertError>) {
    let wire = match wire(bytes) {
        Ok(wire) => wire,
        Err(error) => return undecodable(name, error),
    };
    let decoded = resource(&wire).and_then(|found| {
        same_name(name, &found.key())?;
        Ok(found)
    });
    let error = match decoded {
        Ok(found) => return (Change::Set(found), None),
        Err(error) => error.of(name),
    };
    // Its targets may still be readable, and then nobody else need suffer.
    match refusing(&wire, &error.to_string()).filter(|found| found.key().to_string() == name) {
        Some(found) => (Change::Set(found), Some(error)),
        None => undecodable(name, error),
    }
}

fn undecodable(name: &str, error: ConvertError) -> (Change, Option<ConvertError>) {
    let error = error.of(name);
    let reason = error.to_string().into();
    (Change::Undecodable(key(name), reason), Some(error))
}

/// Reads an encoded `ambit.waypoint.Resource`.
///
/// # Errors
/// The first value that does not decode.
pub fn decode(bytes: &[u8]) -> Result<Resource, ConvertError> {
    resource(&wire(bytes)?)
}

/// Writes an `ambit.waypoint.Resource`. The same resource gives the same bytes.
#[must_use]
pub fn encode(resource: &Resource) -> Vec<u8> {
    let kind = match resource {
        Resource::Route(it) => Kind::Route((&**it).into()),
        Resource::Policy(it) => Kind::Policy((&**it).into()),
        Resource::Authentication(it) => Kind::Authentication((&**it).into()),
        Resource::Authorizer(it) => Kind::Authorizer((&**it).into()),
        Resource::Traffic(it) => Kind::Traffic((&**it).into()),
        Resource::Tls(it) => Kind::Tls((&**it).into()),
    };
    proto::Resource { kind: Some(kind) }.encode_to_vec()
}

/// The key of the resource `name`, for its removal. A name that says nothing is taken for a policy
/// without a namespace, so that what cannot be read still refuses.
#[must_use]
pub fn key(name: &str) -> ResourceKey {
    known_key(name).unwrap_or_else(|| ResourceKey::Policy(NamespacedName::new("", name)))
}

fn known_key(name: &str) -> Option<ResourceKey> {
    let (kind, rest) = name.split_once('/')?;
    let named = || rest.parse::<NamespacedName>().ok();
    match kind {
        "route" => {
            let (protocol, rest) = rest.split_once('/')?;
            let protocol = [Protocol::Grpc, Protocol::Http, Protocol::Tls, Protocol::Tcp]
                .into_iter()
                .find(|of| of.as_str() == protocol)?;
            let (route, rule) = rest.rsplit_once('/')?;
            let key = RouteKey {
                protocol,
                route: route.parse().ok()?,
                rule: rule.parse().ok()?,
            };
            Some(ResourceKey::Route(key))
        }
        "policy" => named().map(ResourceKey::Policy),
        "authentication" => named().map(ResourceKey::Authentication),
        "authorizer" => named().map(ResourceKey::Authorizer),
        "traffic" => named().map(ResourceKey::Traffic),
        "tls" => named().map(ResourceKey::Tls),
        _ => None,
    }
}

fn wire(bytes: &[u8]) -> Result<Kind, ConvertError> {
    let wire = proto::Resource::decode(bytes)
        .map_err(|error| ConvertError::new("", error.to_string(), "ambit.waypoint.Resource"))?;
    wire.kind
        .ok_or_else(|| ConvertError::new("kind", (), "a kind of resource"))
}

fn resource(wire: &Kind) -> Result<Resource, ConvertError> {
    Ok(match wire {
        Kind::Route(it) => Resource::Route(Arc::new(route::rule(it)?)),
        Kind::Policy(it) => Resource::Policy(Arc::new(policy::policy(it)?)),
        Kind::Authentication(it) => {
            Resource::Authentication(Arc::new(authentication::authentication(it)?))
        }
        Kind::Authorizer(it) => Resource::Authorizer(Arc::new(policy::authorizer(it)?)),
        Kind::Traffic(it) => Resource::Traffic(Arc::new(traffic::traffic(it)?)),
        Kind::Tls(it) => Resource::Tls(Arc::new(traffic::tls(it)?)),
    })
}

/// What stands in for a resource that does not decode: attached as it says, refusing for this reason.
fn refusing(wire: &Kind, reason: &str) -> Option<Resource> {
    Some(match wire {
        Kind::Policy(it) => Resource::Policy(Arc::new(policy::refusing(it, reason)?)),
        Kind::Authentication(it) => {
            Resource::Authentication(Arc::new(authentication::refusing(it, reason)?))
        }
        Kind::Tls(it) => Resource::Tls(Arc::new(traffic::refusing(it, reason)?)),
        // See `Change::Undecodable`.
        Kind::Route(_) | Kind::Authorizer(_) | Kind::Traffic(_) => return None,
    })
}

/// The name of a resource is how its removal will be told, so it must be the one inside.
fn same_name(name: &str, inside: &ResourceKey) -> Result<(), ConvertError> {
    let inside = inside.to_string();
    if name == inside {
        return Ok(());
    }
    Err(ConvertError::new(
        "name",
        inside,
        "the name of the resource",
    ))
}
