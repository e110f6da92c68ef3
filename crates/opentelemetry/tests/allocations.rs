//! How often a call allocates more with a tracer whose sampler drops all. In a process of its own,
//! because all allocations of the process count.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets have real time, and nothing here pauses it"
)]

use std::{alloc::System, sync::Arc};

use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use testing::{Backend, GREETER, balanced, greeter, hello, request};
use tonic_health_channel::ChannelBuilder;
use tonic_health_channel_opentelemetry::OtelTracer;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 500;

/// Of client and server together, for each call.
async fn of(backend: &Backend, options: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> f64 {
    let channel = options(balanced(&[backend], Some(GREETER))).build();
    let mut client = greeter(&channel);
    // Tables, pools and buffers grow first.
    for _ in 0..CALLS {
        hello(&channel).await.expect("an answer");
    }
    let counted = Region::new(COUNTED);
    for _ in 0..CALLS {
        client.say_hello(request("you")).await.expect("an answer");
    }
    let counted = counted.change();
    (counted.allocations + counted.reallocations) as f64 / CALLS as f64
}

// Q11
#[tokio::test]
async fn a_call_that_is_not_sampled_allocates_little_more() {
    let backend = Backend::start().await;
    let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff);
    let tracer = OtelTracer::new(&provider.build());
    let without = of(&backend, |builder| builder).await;
    let with = of(&backend, |builder| builder.call_tracer(Arc::new(tracer))).await;
    let more = with - without;
    assert!(more > 0.5, "a span has a name: {with} and {without}");
    assert!(more < 4.2, "{with} with a tracer, {without} without");
}
