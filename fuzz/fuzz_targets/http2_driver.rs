//! See `src/http2_driver.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tonic_health_channel_fuzz::http2_driver::check(data));
