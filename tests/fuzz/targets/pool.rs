//! Any sequence of callers, dials, settings, ends and evictions leaves every stream of a pool in its place, and nobody waiting.
#![no_main]

use ambit_net::hbone::testing::live;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|history: &[u8]| live(history));
