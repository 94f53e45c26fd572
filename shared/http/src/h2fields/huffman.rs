//! Huffman's code of HPACK (RFC 7541 section 5.2 and appendix B), decoded half a byte at a time.

use super::Unreadable;
use super::text::MARKS;

/// Bits of each byte's code. The code is canonical, so they say all: codes of one length are consecutive numbers
/// in the order of the bytes, and follow on the shorter ones.
#[rustfmt::skip]
pub(super) const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/// The longest code's bits.
const LONGEST: u8 = 30;
/// Places where codes branch: one fewer than there are codes, with that of the end.
const BRANCHES: usize = 256;

/// Where four bits lead from a branch. In so few, no more than one code ends.
#[derive(Clone, Copy)]
struct Step {
    /// The next branch.
    to: u8,
    /// The byte whose code has ended on the way.
    byte: u8,
    /// Its marks, and flags.
    flags: u8,
}

/// A code has ended on the way.
const BYTE: u8 = 0x10;
/// A string may end here: since the last code there were only ones, fewer than eight.
const END: u8 = 0x20;
/// No code begins so, or it is that of the end.
const BROKEN: u8 = 0x40;

static STEPS: [[Step; 16]; BRANCHES] = steps(&codes());

/// The code of each byte, its first bit foremost.
pub(super) const fn codes() -> [u32; 256] {
    let mut codes = [0; 256];
    let mut next = 0;
    let mut length = 1;
    while length <= LONGEST {
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] == length {
                codes[byte] = next;
                next += 1;
            }
            byte += 1;
        }
        next <<= 1;
        length += 1;
    }
    codes
}

const fn steps(codes: &[u32; 256]) -> [[Step; 16]; BRANCHES] {
    // Of each branch, where a zero and a one lead: to a branch, to a byte (above all branches), or nowhere yet (0:
    // nothing leads to the root).
    let mut tree = [[0; 2]; BRANCHES];
    let mut branches = 1;
    let mut byte = 0;
    while byte < 256 {
        let mut at = 0;
        let mut left = LENGTHS[byte];
        while left > 1 {
            left -= 1;
            let bit = (codes[byte] >> left & 1) as usize;
            if tree[at][bit] == 0 {
                tree[at][bit] = branches;
                branches += 1;
            }
            at = tree[at][bit];
        }
        tree[at][(codes[byte] & 1) as usize] = BRANCHES + byte;
        byte += 1;
    }
    // Branches that only ones lead to, and fewer than eight.
    let mut ends = [false; BRANCHES];
    let (mut at, mut ones) = (0, 0);
    while ones < 8 {
        ends[at] = true;
        at = tree[at][1];
        ones += 1;
    }
    let mut steps = [[Step {
        to: 0,
        byte: 0,
        flags: 0,
    }; 16]; BRANCHES];
    let mut from = 0;
    while from < BRANCHES {
        let mut bits = 0;
        while bits < 16 {
            steps[from][bits] = step(&tree, &ends, from, bits);
            bits += 1;
        }
        from += 1;
    }
    steps
}

const fn step(
    tree: &[[usize; 2]; BRANCHES],
    ends: &[bool; BRANCHES],
    from: usize,
    bits: usize,
) -> Step {
    let mut step = Step {
        to: 0,
        byte: 0,
        flags: 0,
    };
    let mut at = from;
    let mut left = 4;
    while left > 0 {
        left -= 1;
        let next = tree[at][bits >> left & 1];
        if next == 0 {
            step.flags = BROKEN;
            return step;
        }
        at = next;
        if next >= BRANCHES {
            step.byte = (next - BRANCHES) as u8;
            step.flags |= BYTE | MARKS[next - BRANCHES];
            at = 0;
        }
    }
    step.to = at as u8;
    if ends[at] {
        step.flags |= END;
    }
    step
}

/// How many bytes there are, and all of their marks.
pub(super) fn measure(coded: &[u8]) -> Result<(usize, u8), Unreadable> {
    let (mut at, mut last, mut all, mut length) = (0, END, 0, 0);
    for byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let step = STEPS[usize::from(at)][usize::from(bits)];
            (at, last) = (step.to, step.flags);
            all |= step.flags;
            length += usize::from(step.flags & BYTE != 0);
        }
    }
    match all & BROKEN | last & END {
        END => Ok((length, all & !(BYTE | END))),
        _ => Err(Unreadable),
    }
}

/// The bytes of what has been measured.
pub(super) fn decode(coded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    for byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let step = STEPS[usize::from(at)][usize::from(bits)];
            at = step.to;
            if step.flags & BYTE != 0 {
                bytes.push(step.byte);
            }
        }
    }
    bytes
}
