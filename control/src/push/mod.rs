//! Delta xDS: the newest state of every resource, and what each proxy has of it.
//!
//! `shelf` holds resources in order of their last change. `session` is one stream as a state machine
//! without IO, `reading` the part of it that concerns one waypoint. `server` moves its messages for as long as `standing` lets it, `connections` tells others how far
//! each proxy is, and `steps` when all are.

pub mod connections;
pub mod encode;
mod reading;
pub mod server;
pub mod session;
pub mod shelf;
mod standing;
pub mod steps;

use ambit_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, WAYPOINT_TYPE};
use serde::Serialize;

/// The resource types that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum ResourceType {
    /// Policies of node proxies.
    Authorization,
    /// What waypoints know beyond workloads and services.
    Waypoint,
    /// Workloads and services.
    Address,
}

impl ResourceType {
    /// All of them, in the order in which a change is sent.
    pub const ALL: [Self; 3] = [Self::Authorization, Self::Waypoint, Self::Address];

    /// As xDS names it.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::Address => ADDRESS_TYPE,
            Self::Authorization => AUTHORIZATION_TYPE,
            Self::Waypoint => WAYPOINT_TYPE,
        }
    }

    /// For metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Authorization => "authorization",
            Self::Waypoint => "waypoint",
        }
    }

    /// The type of a URL.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.url() == url)
    }
}

/// A value for each type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByType<T>([T; ResourceType::ALL.len()]);

impl<T> std::ops::Index<ResourceType> for ByType<T> {
    type Output = T;

    fn index(&self, of: ResourceType) -> &T {
        &self.0[of as usize]
    }
}

impl<T> std::ops::IndexMut<ResourceType> for ByType<T> {
    fn index_mut(&mut self, of: ResourceType) -> &mut T {
        &mut self.0[of as usize]
    }
}
