//! See `src/wire.rs`. Without `--cfg fuzzing`, which cargo-fuzz sets, there is nothing to call.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tonic_health_channel_fuzz::wire::check(data));

#[cfg(not(fuzzing))]
fn main() {}
