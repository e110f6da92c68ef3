//! The figures and paths in `docs/draining.md` are those of the code.

use std::{convert::Infallible, fs, time::Duration};

use grpc_health_service::{DrainOptions, HealthHandle, HealthService, ServingStatus::Serving};
use http::{Request, StatusCode};
use tonic::codegen::Service;

/// The guide adds so many seconds to the times of a drain.
const MARGIN: u64 = 5;

fn guide() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/draining.md");
    fs::read_to_string(path).expect("the guide")
}

/// The values of a field in the manifest, in their order.
fn values(field: &str) -> Vec<String> {
    let guide = guide();
    let (_, rest) = guide.split_once("```yaml\n").expect("a manifest");
    let (manifest, _) = rest.split_once("\n```").expect("its end");
    let lines = manifest
        .lines()
        .map(|line| line.trim_start_matches([' ', '-']));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let values = pairs.filter(|(name, _)| *name == field);
    values.map(|(_, value)| value.to_owned()).collect()
}

fn seconds(text: &str) -> u64 {
    match text {
        "none" => 0,
        number => number.parse().expect("a number of seconds"),
    }
}

#[test]
fn the_grace_period_outlasts_the_drain() {
    let longest = DrainOptions::default().longest().as_secs();
    let grace = values("terminationGracePeriodSeconds");
    assert_eq!(grace, [(longest + MARGIN).to_string()]);
    assert!(guide().contains(&format!("the process ends, {longest} s after the signal")));

    let guide = guide();
    let (_, rest) = guide.split_once("| clients | `linger` |").expect("a table");
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, linger, pre_stop, grace] = cells[..] else {
            panic!("not 4 cells: {row}");
        };
        let linger = Duration::from_secs(seconds(linger));
        let longest = DrainOptions::default().linger(linger).longest().as_secs();
        assert_eq!(
            seconds(grace),
            seconds(pre_stop) + longest + MARGIN,
            "{row}"
        );
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[tokio::test]
async fn the_probes_ask_for_paths_that_are_answered() {
    let paths = values("path");
    let [readiness, liveness] = &paths[..] else {
        panic!("not 2 probes: {paths:?}");
    };
    let ports = values("port");
    let names = values("name");
    assert_eq!(ports[..2], ["probes", "probes"]);
    assert!(names.contains(&"probes".to_owned()), "{names:?}");

    let (health, _service) = HealthService::new();
    health.set("demo.v1.Greeter", Serving);
    assert_eq!(probe(&health, readiness).await, StatusCode::OK);
    health.drain(DrainOptions::default()).await;
    assert_eq!(
        probe(&health, readiness).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(probe(&health, liveness).await, StatusCode::OK);
}

async fn probe(health: &HealthHandle, path: &str) -> StatusCode {
    let request = Request::get(path).body(()).expect("a request");
    let answer: Result<_, Infallible> = health.http_probes().call(request).await;
    answer.expect("an answer").status()
}
