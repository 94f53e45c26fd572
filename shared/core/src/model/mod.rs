//! The mesh as plain data: workloads, services and policies.
//!
//! Values are parsed once, when they arrive (see `convert`), and never half valid.

pub mod policy;
pub mod service;
pub mod workload;

pub use policy::{
    Action, AuthorizationPolicy, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};
pub use service::{
    AppProtocol, IpFamilies, LoadBalancing, PortMapping, PortName, Service, Vip, WeightedWaypoint,
};
pub use workload::{
    ApplicationTunnel, Destination, GatewayAddress, Health, Locality, NetworkMode, TunnelProtocol,
    Workload, WorkloadType,
};
