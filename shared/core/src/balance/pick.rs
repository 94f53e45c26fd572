//! The choice itself.

use super::Picker;
use super::rank::rank;
use crate::index::{Endpoint, Endpoints};
use crate::model::service::{Mode, Scope};
use crate::model::{LoadBalancing, Workload};

/// Draws before giving up on luck and looking at every endpoint. They find the client's own of three zones in 998 cases
/// of 1,000, of ten in 815, and cost less than a look at a hundred endpoints.
const DRAWS: usize = 16;

/// An endpoint for a client `from`, among those that `able` gives something for (an address it
/// can be reached at, say). Shares follow capacity. `None` when there is none.
///
/// Unhealthy endpoints are left out unless the service wants them, and in mode
/// [`Mode::Strict`] those that do not match every scope of its preference.
pub fn pick<'a, T>(
    endpoints: &'a Endpoints,
    how: &LoadBalancing,
    from: &Workload,
    picker: &mut impl Picker,
    mut able: impl FnMut(&'a Endpoint) -> Option<T>,
) -> Option<(&'a Endpoint, T)> {
    let bound = u32::try_from(count(endpoints, how)).unwrap_or(u32::MAX);
    if bound == 0 {
        return None;
    }
    let preference = preference(how);
    if endpoints.uniform() {
        for _ in 0..DRAWS {
            let endpoint = endpoints.get(picker.next(bound) as usize)?;
            // None can be nearer: what is drawn like this has the same share as all others as near.
            let nearest = rank(preference, from, endpoint.workload()) == preference.len();
            if nearest && let Some(found) = able(endpoint) {
                return Some((endpoint, found));
            }
        }
    }
    let mut best = Best::default();
    for (rank, endpoint) in ranked(endpoints, how, from) {
        if !best.beats(rank)
            && let Some(found) = able(endpoint)
        {
            best.offer(endpoint, found, rank, picker);
        }
    }
    best.chosen
}

/// [`pick`]s two that are equally near, and gives the one with the smaller `load` for its capacity. For
/// connections that last, of which shares alone would leave some endpoints with most.
pub fn pick_less_busy<'a, T>(
    endpoints: &'a Endpoints,
    how: &LoadBalancing,
    from: &Workload,
    picker: &mut impl Picker,
    mut able: impl FnMut(&'a Endpoint) -> Option<T>,
    load: impl Fn(&Endpoint, &T) -> usize,
) -> Option<(&'a Endpoint, T)> {
    let (first, found) = pick(endpoints, how, from, picker, &mut able)?;
    let near = |endpoint: &Endpoint| rank(preference(how), from, endpoint.workload());
    let other = pick(endpoints, how, from, picker, |endpoint| {
        let another = endpoint.workload().uid != first.workload().uid;
        if another && near(endpoint) == near(first) {
            able(endpoint)
        } else {
            None
        }
    });
    let Some((second, found_second)) = other else {
        return Some((first, found));
    };
    let capacity = |endpoint: &Endpoint| endpoint.workload().capacity.max(1) as usize;
    let ours = load(first, &found).saturating_mul(capacity(second));
    let theirs = load(second, &found_second).saturating_mul(capacity(first));
    if ours <= theirs {
        Some((first, found))
    } else {
        Some((second, found_second))
    }
}

/// How many of the first are healthy enough for the service.
fn count(endpoints: &Endpoints, how: &LoadBalancing) -> usize {
    match how.allow_unhealthy {
        true => endpoints.len(),
        false => endpoints.healthy_len(),
    }
}

/// Every endpoint that may be chosen, and how near it is to a client `from`: more is nearer.
pub(super) fn ranked<'a>(
    endpoints: &'a Endpoints,
    how: &LoadBalancing,
    from: &Workload,
) -> impl Iterator<Item = (usize, &'a Endpoint)> {
    let preference = preference(how);
    let least = match how.mode {
        Mode::Strict => preference.len(),
        _ => 0,
    };
    let all = endpoints.iter().take(count(endpoints, how));
    all.map(move |it| (rank(preference, from, it.workload()), it))
        .filter(move |(rank, _)| *rank >= least)
}

/// The scopes that count in the service's mode.
fn preference(how: &LoadBalancing) -> &[Scope] {
    match how.mode {
        Mode::Strict | Mode::Failover => &how.preference,
        Mode::Unspecified | Mode::Passthrough => &[],
    }
}

/// Weighted reservoir sampling among the best rank seen so far: one pass, no list.
struct Best<'a, T> {
    rank: usize,
    weight: u32,
    chosen: Option<(&'a Endpoint, T)>,
}

impl<T> Default for Best<'_, T> {
    fn default() -> Self {
        Self {
            rank: 0,
            weight: 0,
            chosen: None,
        }
    }
}

impl<'a, T> Best<'a, T> {
    fn beats(&self, rank: usize) -> bool {
        self.chosen.is_some() && self.rank > rank
    }

    fn offer(&mut self, endpoint: &'a Endpoint, found: T, rank: usize, picker: &mut impl Picker) {
        if self.chosen.is_none() || rank > self.rank {
            self.rank = rank;
            self.weight = 0;
        }
        let weight = endpoint.workload().capacity.max(1);
        self.weight = self.weight.saturating_add(weight);
        if self.weight == weight || picker.next(self.weight) < weight {
            self.chosen = Some((endpoint, found));
        }
    }
}
