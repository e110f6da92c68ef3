//! How often a call allocates, with and without metrics. In a process of its own, because all
//! allocations of the process count.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and nothing here pauses it"
)]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use testing::{Backend, GREETER, balanced, greeter, request, say};
use tonic_health_channel::{
    Channel, ChannelBuilder,
    metrics::{Metrics, Prometheus},
};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 500;

/// Of client and server together, for each call: those that succeed, and those that fail.
async fn per_call(channel: &Channel) -> [f64; 2] {
    let mut each = [0.0; 2];
    for (each, name) in each.iter_mut().zip(["you", "fail:5"]) {
        let mut client = greeter(channel);
        // Tables, pools and buffers grow first, and series are made.
        for _ in 0..CALLS {
            let _ = say(channel, name).await;
        }
        let counted = Region::new(COUNTED);
        for _ in 0..CALLS {
            let _ = client.say_hello(request(name)).await;
        }
        let counted = counted.change();
        *each = (counted.allocations + counted.reallocations) as f64 / CALLS as f64;
    }
    each
}

async fn of(backend: &Backend, options: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> [f64; 2] {
    let channel = options(balanced(&[backend], Some(GREETER))).build();
    per_call(&channel).await
}

// M01, D409
#[tokio::test]
async fn a_call_with_metrics_allocates_as_often_as_one_without() {
    let backend = Backend::start().await;
    let without = of(&backend, |builder| builder).await;
    let meter = Prometheus::new();
    let metrics = Metrics::new(meter.clone()).enable(["grpc.client.call.retries"]);
    let with = of(&backend, |builder| {
        builder.metrics(metrics).expect("known names")
    });
    let with = with.await;
    assert!(meter.render().contains("grpc_client_call_duration"));
    for (without, with) in without.into_iter().zip(with) {
        let more = with - without;
        assert!(more.abs() < 0.2, "{with} with metrics, {without} without");
    }
}
