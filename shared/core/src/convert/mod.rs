//! Between the wire's resources and the model, both ways.
//!
//! From the wire everything is checked: a resource with one value that does not decode is
//! rejected as a whole, because half a policy is another policy. [`ConvertError`] names the
//! resource, the field and the value.

mod address;
pub mod error;
mod gateway;
mod policy;
mod service;
#[cfg(test)]
mod tests;
mod udp;
mod workload;

pub use address::{Address, address_change, authorization_change, decode_address, policy_key};
pub use error::ConvertError;
pub use policy::decode_authorization;
