//! A watcher takes little memory, and leaves none behind.
//!
//! The only test in its process, because the allocator counts for all threads.

#[path = "it/in_memory.rs"]
mod in_memory;

use std::alloc::System;

use grpc_health_service::HealthService;
use in_memory::{Polled, Stream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WATCHERS: usize = 10_000;

fn bytes(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

/// Each has a name of its own, which the service does not know.
async fn open_all(service: &HealthService, streams: &mut Vec<Stream>) {
    for number in 0..WATCHERS {
        let mut stream = Stream::open(service, &format!("{number:0100}")).await;
        assert_eq!(stream.poll(), Polled::Status(3));
        assert_eq!(stream.poll(), Polled::Pending);
        streams.push(stream);
    }
}

#[tokio::test]
async fn a_watcher_takes_little_memory_and_leaves_none_behind() {
    let (health, service) = HealthService::new();
    let mut streams = Vec::with_capacity(WATCHERS);
    let region = Region::new(COUNTED);
    open_all(&service, &mut streams).await;
    let first = bytes(&region);
    assert!(first / WATCHERS <= 4 * 1024, "{} bytes", first / WATCHERS);
    assert_eq!(health.watchers(), WATCHERS);

    streams.clear();
    assert_eq!(health.watchers(), 0);
    let left = bytes(&region);
    // The tables keep their room for the next watchers.
    assert!(left / WATCHERS <= 256, "{} bytes", left / WATCHERS);
    open_all(&service, &mut streams).await;
    assert!(bytes(&region) <= first, "the room is not used again");
}
