//! Between the resources of `ambit.waypoint` and the model, both ways.
//!
//! From the wire everything is checked: a resource with one value that does not decode is rejected as
//! a whole, because half a policy is another policy. Where its targets can be read, only these are
//! refused.

mod authentication;
mod change;
mod filter;
mod policy;
mod route;
#[cfg(test)]
mod tests;
mod traffic;
mod value;

pub use change::{change, decode, encode, key};
