//! Policies and subsets that change while calls are made.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use testing::{
    Backend, Configs, balanced, by_hand, call, endpoint, hello, request, spread, until_backends,
    until_that, within,
};
use tokio::task::JoinSet;
use tonic::Request;
use tonic_health_channel::{
    Channel,
    ConnectivityState::{self, Idle, Ready},
    status::ChannelStatus,
};

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#;
const LEAST_REQUEST: &str = r#"{"loadBalancingConfig": [{"least_request_experimental": {}}]}"#;
const WEIGHTED: &str = r#"{"loadBalancingConfig": [{"weighted_round_robin": {}}]}"#;
const RING: &str = r#"{"loadBalancingConfig": [
    {"ring_hash_experimental": {"requestHashHeader": "x-user"}}]}"#;

fn subset(size: u32) -> String {
    format!(
        r#"{{"loadBalancingConfig": [{{"random_subsetting_experimental": {{
            "subsetSize": {size}, "childPolicy": [{{"round_robin": {{}}}}]}}}}]}}"#
    )
}

/// Callers that call without a pause, each as a user of its own.
struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<usize>,
}

impl Callers {
    fn start(channel: &Channel) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for user in 0..4 {
            let (channel, stop) = (channel.clone(), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut calls = 0;
                while !stop.load(Relaxed) {
                    let mut request = Request::new(request("you"));
                    let user = format!("user-{user}").parse().expect("a header value");
                    request.metadata_mut().insert("x-user", user);
                    call(&channel, request).await.expect("no call fails");
                    calls += 1;
                }
                calls
            });
        }
        Self { stop, tasks }
    }

    /// How many calls each has made.
    async fn end(self) -> Vec<usize> {
        self.stop.store(true, Relaxed);
        within("the callers to end", self.tasks.join_all()).await
    }
}

fn count(status: &ChannelStatus, state: ConnectivityState) -> usize {
    let backends = status.backends().iter();
    backends.filter(|backend| backend.state() == state).count()
}

// Z18
#[tokio::test]
async fn policies_change_under_load_and_no_call_fails() {
    let backends = Backend::builder().start_each(["A", "B", "C"]).await;
    let (configs, channel) = Configs::of(balanced(&backends.each_ref(), None));
    configs.say(ROUND_ROBIN);
    until_backends(&channel, &[Ready; 3]).await;
    let callers = Callers::start(&channel);
    for _ in 0..10 {
        for policy in [LEAST_REQUEST, WEIGHTED, RING, ROUND_ROBIN] {
            configs.put_in_force(&channel, policy).await;
            let status = channel.status();
            assert_eq!(count(&status, Ready), 3, "{status:?}");
            hello(&channel).await.expect("no call fails");
        }
    }
    assert!(callers.end().await.iter().all(|calls| *calls > 0));
    for backend in &backends {
        assert_eq!(backend.connections(), 1, "the connection that was there");
    }
}

// Z18
#[tokio::test]
async fn a_subset_comes_and_goes_under_load_and_no_call_fails() {
    let backends = Backend::builder().start_each(["A", "B", "C", "D"]).await;
    let (configs, channel) = Configs::of(balanced(&backends.each_ref(), None));
    configs.say(ROUND_ROBIN);
    until_backends(&channel, &[Ready; 4]).await;
    let callers = Callers::start(&channel);
    for _ in 0..10 {
        let connections = backends.each_ref().map(Backend::connections);
        configs.say(&subset(2));
        until_that(&channel, "a subset", |status| {
            assert_eq!(status.state(), Ready, "{status:?}");
            (count(status, Ready), count(status, Idle)) == (2, 2)
        })
        .await;
        let now = backends.each_ref().map(Backend::connections);
        assert_eq!(now, connections, "its members were connected");

        configs.say(ROUND_ROBIN);
        until_that(&channel, "all backends", |status| {
            assert_eq!(status.state(), Ready, "{status:?}");
            count(status, Ready) == 4
        })
        .await;
    }
    assert!(callers.end().await.iter().all(|calls| *calls > 0));
}

// D355
#[tokio::test]
async fn backends_outside_of_the_subset_are_idle() {
    let names = ["A", "B", "C", "D", "E"];
    let backends = Backend::builder().start_each(names).await;
    let (source, builder) = by_hand(None);
    let config = subset(2).parse().expect("a valid service config");
    let channel = builder.service_config(config).build();
    for (name, backend) in names.into_iter().zip(&backends) {
        source.insert_as(name, endpoint(backend.uri())).await;
    }
    let is_settled = |status: &ChannelStatus| count(status, Ready) == 2 && count(status, Idle) == 3;
    let status = until_that(&channel, "a subset", is_settled).await;
    let states: Vec<_> = status.backends().iter().map(|b| b.state()).collect();
    let shares = spread(&channel, 10, &backends.each_ref()).await;
    for (state, share) in states.iter().zip(&shares) {
        assert_eq!(*share, if *state == Ready { 5 } else { 0 }, "{status:?}");
    }

    let member = states.iter().position(|state| *state == Ready);
    source.remove(names[member.expect("there are 2")]).await;
    let is_refilled = |status: &ChannelStatus| {
        status.backends().len() == 4 && count(status, Ready) == 2 && count(status, Idle) == 2
    };
    until_that(&channel, "another member", is_refilled).await;
}
