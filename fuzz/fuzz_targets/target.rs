//! See `src/channel/target.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonic_health_channel_fuzz::target::check(data));
