//! The endpoint that keeps a client (`sessionAffinity: ClientIP` of a Kubernetes Service).
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): the client address and each endpoint give a number, and the endpoint
//! with the best one has the client. There is no state to lose at a restart and none to share between nodes. An endpoint
//! that goes moves its own clients alone, one that comes takes its share from all. What a function of the moment cannot
//! have is a memory: no timeout ends the affinity, and an endpoint that comes takes clients over that another one has.

use std::net::IpAddr;

use super::hash::{hash, mix};
use super::pick::ranked;
use crate::index::{Endpoint, Endpoints};
use crate::model::{LoadBalancing, Workload};

/// The endpoint that keeps `client`, the address of a client `from`, among the nearest of those that `able` gives something
/// for. Shares of clients follow capacity. `None` when there is none.
///
/// Health and preference count as in [`pick`](super::pick()). One pass over the endpoints, 1.2 ms for 10,000 of them;
/// `able` is asked of few.
pub fn keep<'a, T>(
    endpoints: &'a Endpoints,
    how: &LoadBalancing,
    from: &Workload,
    client: IpAddr,
    mut able: impl FnMut(&'a Endpoint) -> Option<T>,
) -> Option<(&'a Endpoint, T)> {
    let client = place(client);
    let mut best: Option<(Claim, &Endpoint, T)> = None;
    for (rank, endpoint) in ranked(endpoints, how, from) {
        let claim = Claim {
            rank,
            wait: wait(client, endpoint.workload()),
        };
        let better = best.as_ref().is_none_or(|(best, ..)| claim.beats(*best));
        if better && let Some(found) = able(endpoint) {
            best = Some((claim, endpoint, found));
        }
    }
    best.map(|(_, endpoint, found)| (endpoint, found))
}

/// How much an endpoint has of a claim to a client.
#[derive(Clone, Copy)]
struct Claim {
    rank: usize,
    wait: f64,
}

impl Claim {
    fn beats(self, other: Self) -> bool {
        self.rank > other.rank || self.rank == other.rank && self.wait < other.wait
    }
}

/// The same address has the same place, however it is written.
fn place(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    }
}

/// How long an endpoint would let the client wait: exponentially distributed, with its capacity as the rate. The one with
/// the shortest wait wins with a chance of its share of all capacities, and no other's wait depends on it.
fn wait(client: u64, endpoint: &Workload) -> f64 {
    /// So many numbers has a `f64` between 0.5 and 1, and one bit more.
    const STEPS: f64 = (1u64 << 53) as f64;
    let number = mix(client ^ hash(endpoint.uid.as_bytes())) >> 11;
    let chance = (number as f64 + 0.5) / STEPS;
    -chance.ln() / f64::from(endpoint.capacity.max(1))
}
