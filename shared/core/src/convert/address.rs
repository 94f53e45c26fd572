//! Whole discovery resources: their bytes, their names, and the changes they stand for.

use std::sync::Arc;

use ambit_proto::workload as proto;
use prost::Message;
use proto::address::Type;

use super::error::ConvertError;
use super::policy;
use crate::addr::NamespacedName;
use crate::index::{Change, UndecodablePolicy};
use crate::model::policy::Scope;
use crate::model::{AuthorizationPolicy, Service, Workload};

/// What an `istio.workload.Address` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A workload.
    Workload(Arc<Workload>),
    /// A service.
    Service(Arc<Service>),
}

impl TryFrom<&proto::Address> for Address {
    type Error = ConvertError;

    fn try_from(wire: &proto::Address) -> Result<Self, Self::Error> {
        match &wire.r#type {
            Some(Type::Workload(workload)) => Ok(Self::Workload(Arc::new(workload.try_into()?))),
            Some(Type::Service(service)) => Ok(Self::Service(Arc::new(service.try_into()?))),
            None => Err(ConvertError::new("type", (), "a workload or a service")),
        }
    }
}

impl From<&Workload> for proto::Address {
    fn from(workload: &Workload) -> Self {
        Self {
            r#type: Some(Type::Workload(workload.into())),
        }
    }
}

impl From<&Service> for proto::Address {
    fn from(service: &Service) -> Self {
        Self {
            r#type: Some(Type::Service(service.into())),
        }
    }
}

/// Reads an encoded `istio.workload.Address`.
///
/// # Errors
/// The first value that does not decode.
pub fn decode_address(bytes: &[u8]) -> Result<Address, ConvertError> {
    let wire = proto::Address::decode(bytes)
        .map_err(|error| ConvertError::new("", error.to_string(), "istio.workload.Address"))?;
    Address::try_from(&wire)
}

/// The change that the Address resource `name` stands for.
///
/// # Errors
/// What does not decode. The last good version of the resource stays in force.
pub fn address_change(name: &str, bytes: &[u8]) -> Result<Change, ConvertError> {
    let change = match decode_address(bytes).map_err(|error| error.of(name))? {
        Address::Workload(workload) => {
            same_name(name, &workload.uid)?;
            Change::Workload(workload)
        }
        Address::Service(service) => {
            same_name(name, &service.key.to_string())?;
            Change::Service(service)
        }
    };
    Ok(change)
}

/// The change that the Authorization resource `name` stands for, with the error to report when it
/// does not decode. Even then it is a change: what it may apply to is denied.
#[must_use]
pub fn authorization_change(name: &str, bytes: &[u8]) -> (Change, Option<ConvertError>) {
    let wire = policy::decode(bytes);
    let decoded = wire.as_ref().map_err(Clone::clone).and_then(|wire| {
        let policy = AuthorizationPolicy::try_from(wire)?;
        same_name(name, &policy.key.to_string())?;
        Ok(policy)
    });
    let error = match decoded {
        Ok(policy) => return (Change::Policy(Arc::new(policy)), None),
        Err(error) => error.of(name),
    };
    let scope = wire.ok().and_then(|wire| policy::scope(wire.scope).ok());
    let key = policy_key(name);
    // A name that says nothing may mean anyone.
    let scope = if key.namespace.is_empty() {
        Some(Scope::Global)
    } else {
        scope
    };
    let change = Change::UndecodablePolicy(UndecodablePolicy {
        key,
        scope,
        reason: error.to_string().into(),
    });
    (change, Some(error))
}

/// The key under which the Authorization resource `name` is kept, for its removal.
#[must_use]
pub fn policy_key(name: &str) -> NamespacedName {
    name.parse()
        .unwrap_or_else(|_| NamespacedName::new("", name))
}

/// The name of a resource is how its removal will be told, so it must be the one inside.
fn same_name(name: &str, inside: &str) -> Result<(), ConvertError> {
    if name == inside {
        return Ok(());
    }
    let error = ConvertError::new("name", inside, "the name of the resource");
    Err(error.of(name))
}
