//! See `src/health_response.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonic_health_channel_fuzz::health_response::check(data));
