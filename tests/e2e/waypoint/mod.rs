//! Services behind a waypoint, as their users see them: routes, resilience, policies, identities.
//!
//! `routes` and `traffic` follow the Gateway API's conformance cases for meshes and, with a service as
//! parent, for gateways; they check more than those do: what was sent on, by whom it was answered, how
//! often it was tried, and that no request fails while configuration changes.

mod call;
mod policies;
mod required;
mod resilience;
mod routes;
mod scene;
mod statuses;
mod traffic;
