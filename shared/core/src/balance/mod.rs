//! Which endpoint of a service takes a connection.
//!
//! The common case, equal endpoints that are all able, is one draw and one lookup. With a preference it takes a few
//! draws, if a fair share of the endpoints is as near as can be. Few that are near (those of one node, say) and unequal
//! capacities cost one pass over the endpoints, about 50 us for 1,000 of them. Nothing is locked or allocated.

mod pick;
mod rank;
#[cfg(test)]
mod tests;

pub use pick::{pick, pick_less_busy};
pub use rank::rank;

/// A source of randomness, so that decisions are functions.
pub trait Picker {
    /// A number below `bound`, each as likely as the other. `bound` is at least 1.
    fn next(&mut self, bound: u32) -> u32;
}

impl<F: FnMut(u32) -> u32> Picker for F {
    fn next(&mut self, bound: u32) -> u32 {
        self(bound)
    }
}

/// Always the first.
#[derive(Debug, Clone, Copy, Default)]
pub struct First;

impl Picker for First {
    fn next(&mut self, _bound: u32) -> u32 {
        0
    }
}

/// SplitMix64 over a seed: for tests and for callers that hold a seed per thread.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts the sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Picker for Seeded {
    fn next(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The high bits of a 32x32 product are an unbiased enough share of `bound`.
        let share = ((mixed >> 32) * u64::from(bound)) >> 32;
        u32::try_from(share).expect("a share of a u32 fits one")
    }
}
