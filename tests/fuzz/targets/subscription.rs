//! Any sequence of pushes, refusals and lost streams leaves in force what there is, and the subscription says so.
#![no_main]

use ambit_core::subscription::testing::live;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|history: &[u8]| live(history));
