//! The IO under `h2`. What has to hold is said in the package, for it is not public:
//! `src/transport/h2/wire/fuzzed`. There the corpus is replayed, too.

#[cfg(fuzzing)]
pub fn check(data: &[u8]) {
    tonic_health_channel::fuzzing::wire(data);
}
