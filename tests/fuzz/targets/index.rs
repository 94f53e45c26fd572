//! Any sequence of changes leaves an index that answers as a naive model does, and nothing of what is removed.
#![no_main]

use ambit_core::index::testing::live;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|history: &[u8]| live(history));
