//! One of many by weight, in constant time (Walker's alias method).

use ambit_core::balance::Picker;

/// Weights of positions.
#[derive(Debug, Default)]
pub(super) struct Draw {
    count: u32,
    total: u64,
    /// Empty when all weights are equal. Position `at` stands for itself with `keep` of 2^32, else
    /// for `alias`.
    table: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    keep: u32,
    alias: u32,
}

impl Draw {
    pub(super) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let total = weights.iter().sum();
        let uniform = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            count: u32::try_from(weights.len()).unwrap_or(u32::MAX),
            total,
            table: if uniform {
                Vec::new()
            } else {
                table(&weights, total)
            },
        }
    }

    /// All weights together.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// A position, by its weight.
    pub(super) fn next(&self, picker: &mut impl Picker) -> usize {
        let at = picker.next(self.count.max(1)) as usize;
        match self.table.get(at) {
            None => at,
            Some(entry) if picker.next(u32::MAX) < entry.keep => at,
            Some(entry) => entry.alias as usize,
        }
    }

    /// The position whose turn it is. With unequal weights the turns are spread evenly: both
    /// numbers that a draw needs come from a sequence that fills the square without clusters.
    pub(super) fn in_turn(&self, turn: u32) -> usize {
        if self.table.is_empty() {
            return (turn % self.count.max(1)) as usize;
        }
        let mut scales = [SPREAD.0, SPREAD.1].into_iter();
        let mut spread = |bound: u32| {
            let point = turn.wrapping_mul(scales.next().unwrap_or(SPREAD.0));
            ((u64::from(point) * u64::from(bound)) >> 32) as u32
        };
        self.next(&mut spread)
    }
}

/// 2^32 times the inverse powers of the plastic number.
const SPREAD: (u32, u32) = (3_242_174_889, 2_447_445_414);

fn table(weights: &[u64], total: u64) -> Vec<Entry> {
    let count = weights.len() as u128;
    let total = u128::from(total.max(1));
    // In units where the mean is `total`.
    let mut left: Vec<u128> = weights.iter().map(|it| u128::from(*it) * count).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|at| left[*at] < total);
    let itself = |at: usize| Entry {
        keep: u32::MAX,
        alias: at as u32,
    };
    let mut table: Vec<Entry> = (0..weights.len()).map(itself).collect();
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        table[poor] = Entry {
            keep: u32::try_from((left[poor] << 32) / total).unwrap_or(u32::MAX),
            alias: rich as u32,
        };
        left[rich] -= total - left[poor];
        match left[rich] < total {
            true => small.push(rich),
            false => large.push(rich),
        }
    }
    table
}
