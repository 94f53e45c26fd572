//! Changes to xDS resources. The only place of the control plane that writes their protobufs.

use std::sync::Arc;

use ambit_http::convert;
use ambit_proto::{security, workload};
use bytes::Bytes;
use prost::Message;
use serde::Serialize;

use super::ResourceType;
use super::shelf::{Resource, Update};
use crate::index::Change;

/// What a change does to the shelf of its type.
#[must_use]
pub fn encode(change: &Change) -> (ResourceType, Update) {
    use workload::address::Type;
    match change {
        Change::Workload(found) => {
            let aliases = found
                .network_addrs()
                .map(|a| a.to_string().into())
                .collect();
            let body = address(Type::Workload((&**found).into()));
            let node = Some(found.node.clone()).filter(|node| !node.is_empty());
            let resource = Resource {
                node,
                ..resource(&found.uid, found, body, aliases)
            };
            (ResourceType::Address, Update::Set(resource))
        }
        Change::RemoveWorkload(uid) => (ResourceType::Address, Update::Remove(uid.clone())),
        Change::Service(found) => {
            let hosts = found
                .vips
                .iter()
                .filter(|vip| vip.net.prefix_len() == vip.net.max_prefix_len());
            let aliases = hosts
                .map(|vip| format!("{}/{}", vip.network, vip.net.addr()).into())
                .collect();
            let body = address(Type::Service((&**found).into()));
            let name: Arc<str> = found.key.to_string().into();
            (
                ResourceType::Address,
                Update::Set(resource(&name, found, body, aliases)),
            )
        }
        Change::RemoveService(key) => (
            ResourceType::Address,
            Update::Remove(key.to_string().into()),
        ),
        Change::Policy(found) => {
            let body = security::Authorization::from(&**found).encode_to_vec();
            let name: Arc<str> = found.key.to_string().into();
            (
                ResourceType::Authorization,
                Update::Set(resource(&name, found, body, Vec::new())),
            )
        }
        Change::RemovePolicy(key) => (
            ResourceType::Authorization,
            Update::Remove(key.to_string().into()),
        ),
        Change::Waypoint(found, readers) => {
            let body = convert::encode(found);
            let resource = Resource {
                name: found.key().to_string().into(),
                version: digest(&body),
                body: Bytes::from(body),
                aliases: Vec::new(),
                readers: Some(readers.clone()),
                node: None,
            };
            (ResourceType::Waypoint, Update::Set(resource))
        }
        Change::RemoveWaypoint(key) => (
            ResourceType::Waypoint,
            Update::Remove(key.to_string().into()),
        ),
    }
}

fn address(of: workload::address::Type) -> Vec<u8> {
    workload::Address { r#type: Some(of) }.encode_to_vec()
}

fn resource(
    name: &Arc<str>,
    model: &impl Serialize,
    body: Vec<u8>,
    aliases: Vec<Arc<str>>,
) -> Resource {
    Resource {
        name: name.clone(),
        version: version(model),
        body: Bytes::from(body),
        aliases,
        readers: None,
        node: None,
    }
}

/// A hash of the content, the same in every replica and after a restart. The protobuf of a workload
/// would not do: the order of its map entries is not defined.
fn version(model: &impl Serialize) -> Arc<str> {
    digest(&serde_json::to_vec(model).expect("the model has only string keys"))
}

fn digest(bytes: &[u8]) -> Arc<str> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut text = String::with_capacity(16);
    for byte in &digest.as_ref()[..8] {
        use std::fmt::Write;
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text.into()
}
