//! The wire protocols Ambit speaks, generated from the `.proto` files beside this crate.
//!
//! Only conversion modules use these types: everything else works on `ambit-core`'s model.
//! The test `generated_code_is_current` regenerates the code and compares.

#![forbid(unsafe_code)]

macro_rules! generated {
    ($file:literal) => {
        include!(concat!("gen/", $file, ".rs"));
    };
}

/// Delta xDS (`envoy.service.discovery.v3`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod xds {
    generated!("envoy.service.discovery.v3");

    /// The `system_version_info` (a text for people) of a response that is a piece: the next one of its type follows
    /// although nothing has changed. Ambit's control plane says so, lest a proxy take a piece for the whole.
    pub const MORE_FOLLOWS: &str = "more follows";
}

/// Workloads and services (`istio.workload`), and ZDS below it.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod workload {
    generated!("istio.workload");

    /// Agent to node proxy (`istio.workload.zds`).
    pub mod zds {
        generated!("istio.workload.zds");
    }
}

/// L4 authorization policies (`istio.security`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod security {
    generated!("istio.security");
}

/// L7 configuration of waypoints (`ambit.waypoint`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod waypoint {
    generated!("ambit.waypoint");
}

/// What extensions of services and workloads say (`ambit.names`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod names {
    generated!("ambit.names");
}

/// Certificate signing (`istio.v1.auth`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod ca {
    generated!("istio.v1.auth");
}

/// External authorization (`envoy.service.auth.v3`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod ext_authz {
    generated!("envoy.service.auth.v3");
}

/// Traces (`opentelemetry.proto.collector.trace.v1`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod otlp {
    generated!("opentelemetry.proto.collector.trace.v1");
}

pub use prost_types::Any;

/// Type URL of [`workload::Address`] resources.
pub const ADDRESS_TYPE: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of [`security::Authorization`] resources.
pub const AUTHORIZATION_TYPE: &str = "type.googleapis.com/istio.security.Authorization";
/// Type URL of [`workload::GatewayAddress`].
pub const GATEWAY_TYPE: &str = "type.googleapis.com/istio.workload.GatewayAddress";
/// Type URL of [`names::PortNames`].
pub const PORT_NAMES_TYPE: &str = "type.googleapis.com/ambit.names.PortNames";
/// Type URL of [`names::UdpPorts`].
pub const UDP_PORTS_TYPE: &str = "type.googleapis.com/ambit.names.UdpPorts";
/// Type URL of [`waypoint::Resource`] resources.
pub const WAYPOINT_TYPE: &str = "type.googleapis.com/ambit.waypoint.Resource";
