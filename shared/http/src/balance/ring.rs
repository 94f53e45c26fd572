//! Consistent hashing: a key keeps its endpoint while it lives, and when one goes or comes only the
//! keys next to it move. Every waypoint of a service has the same ring.

use ambit_core::balance::{hash, mix};

/// Points on the ring for each unit of weight.
const POINTS: u32 = 64;
/// Heavier endpoints get no more points.
const MOST_UNITS: u32 = 16;
/// An endpoint has room for that many times its share, in percent.
const ROOM: u64 = 200;
/// It always has room for that many: a quiet service keeps its keys together.
const LEAST_ROOM: u64 = 16;
/// Points that are looked at for one request.
const STEPS: usize = 256;

/// Points in order, and whose they are.
#[derive(Debug)]
pub(super) struct Ring(Vec<(u64, u32)>);

impl Ring {
    /// Of endpoints by name and weight.
    pub(super) fn new<'a>(endpoints: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut points = Vec::new();
        for (at, (name, weight)) in endpoints.enumerate() {
            let name = hash(name.as_bytes());
            for n in 0..POINTS * weight.min(MOST_UNITS) {
                points.push((mix(name ^ mix(u64::from(n))), at as u32));
            }
        }
        points.sort_unstable();
        Self(points)
    }

    /// Endpoints from a key's place onwards.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.0.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.0.split_at(start);
        let points = after.iter().chain(before).take(STEPS);
        points.map(|(_, at)| *at as usize)
    }
}

/// How many requests an endpoint may have at once before its keys spill.
pub(super) struct Room {
    requests: u64,
    weights: u64,
}

impl Room {
    pub(super) fn new(in_flight: u32, weights: u64) -> Self {
        Self {
            requests: u64::from(in_flight) + 1,
            weights: weights.max(1),
        }
    }

    pub(super) fn has(&self, in_flight: u32, weight: u32) -> bool {
        let share = self.requests * u64::from(weight) * ROOM / 100;
        u64::from(in_flight) < share.div_ceil(self.weights).max(LEAST_ROOM)
    }
}
