//! See `src/health_request.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonic_health_channel_fuzz::health_request::check(data));
