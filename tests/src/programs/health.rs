//! gRPC's health service, which kubelets ask (`grpc.health.v1`), as far as a probe needs it.

/// Path of the unary method that says how a service is.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Which service is asked for; the empty name stands for the whole server.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthCheckRequest {
    /// Its full name.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// How it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthCheckResponse {
    /// Whether it serves.
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

/// Whether a service serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    /// Nobody knows.
    Unknown = 0,
    /// It takes calls.
    Serving = 1,
    /// It takes no calls for now.
    NotServing = 2,
}
