//! See `src/service_config.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonic_health_channel_fuzz::service_config::check(data));
