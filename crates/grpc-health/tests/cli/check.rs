//! `check`: one question to each backend for each service, and one exit code.

use testing::{
    Backend, CheckScript, GREETER, HealthKind, NOT_SERVING, Peer, PeerScript, dead_addr,
};

use super::run::{Ended, run};

async fn check(targets: &[&str], more: &[&str]) -> Ended {
    run(&[&["check"], targets, more].concat()).await
}

#[tokio::test]
async fn all_serving_is_0() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let ended = check(&[&at_a, &at_b], &[]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.stdout.split_whitespace().next(), Some("BACKEND"));
    assert_eq!(ended.rows(), [[&at_a, "SERVING"], [&at_b, "SERVING"]]);
    assert_eq!((a.checks(), a.watches()), (1, 0));
}

#[tokio::test]
async fn one_that_is_not_serving_is_4() {
    let [a, b] = Backend::builder().start_each(["a", "b"]).await;
    b.set_not_serving("").await;
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let ended = check(&[&at_a, &at_b], &[]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(ended.rows(), [[&at_a, "SERVING"], [&at_b, "NOT_SERVING"]]);
}

#[tokio::test]
async fn a_status_that_the_protocol_lacks_is_4() {
    let backend = Backend::builder().scripted().start().await;
    backend.script_check(CheckScript::Status(7));
    let ended = check(&[&backend.addr().to_string()], &[]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stdout.contains("unrecognized status 7"), "{ended:?}");
}

#[tokio::test]
async fn a_call_that_fails_is_3_with_its_reason() {
    let silent = Backend::builder().scripted().start().await;
    silent.script_check(CheckScript::NeverAnswer);
    let without = Backend::builder().health(HealthKind::None).start().await;
    let other = Backend::start().await;
    for (backend, service, why) in [
        (&silent, "", "DEADLINE_EXCEEDED: no answer within 200ms"),
        (&without, "", "UNIMPLEMENTED (no health service)"),
        (&other, "no.such.Service", "NOT_FOUND (unknown service)"),
    ] {
        let at = backend.addr().to_string();
        let ended = check(&[&at], &["--timeout", "200ms", "--service", service]).await;
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(ended.stdout.contains(why), "{ended:?}");
        assert_eq!(ended.rows()[0][..2], [&at, "failed"]);
    }
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_2_with_its_reason() {
    let dead = dead_addr();
    let http1 = Peer::start(PeerScript::SpeaksHttp1).await;
    let silent = Peer::start(PeerScript::Silent).await;
    let [refused, http1, silent] =
        [dead.addr(), http1.addr(), silent.addr()].map(|a| a.to_string());
    for (target, why) in [
        (refused.as_str(), "connect: connection refused"),
        (http1.as_str(), "HTTP/1"),
        (silent.as_str(), "connect: "),
        ("no-such-host.invalid:1", "name resolver error: "),
        ("unix:/no/such/socket", "connect: "),
    ] {
        let ended = check(&[target], &["--connect-timeout", "300ms"]).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stdout.contains(why), "{ended:?}");
        assert!(!ended.stdout.contains("next attempt in"), "{ended:?}");
        assert_eq!(ended.rows()[0][1], "unreachable", "{ended:?}");
    }
}

#[tokio::test]
async fn the_less_is_known_the_worse() {
    let (dead, sick, without) = (
        dead_addr(),
        Backend::builder().not_serving("").start().await,
        Backend::builder().health(HealthKind::None).start().await,
    );
    let well = Backend::start().await;
    let [dead, sick, without, well] =
        [dead.addr(), sick.addr(), without.addr(), well.addr()].map(|addr| addr.to_string());
    assert_eq!(check(&[&well, &sick, &without, &dead], &[]).await.code, 2);
    assert_eq!(check(&[&without, &sick, &well], &[]).await.code, 3);
    assert_eq!(check(&[&sick, &well], &[]).await.code, 4);
}

#[tokio::test]
async fn a_target_is_asked_at_each_of_its_addresses() {
    let [a, b] = Backend::builder().start_side_by_side(["a", "b"]).await;
    b.set_not_serving(GREETER).await;
    let target = format!("ipv4:{},{}", a.addr(), b.addr());
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let services = ["--service", "", "--service", GREETER];
    let ended = check(&[&target], &services).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    let expected = [
        [&at_a, "\"\"", "SERVING"],
        [&at_a, GREETER, "SERVING"],
        [&at_b, "\"\"", "SERVING"],
        [&at_b, GREETER, "NOT_SERVING"],
    ];
    assert_eq!(ended.rows(), expected);
}

#[tokio::test]
async fn an_answer_is_a_json_object_with_the_same_fields_each_time() {
    let dead = dead_addr();
    let backend = Backend::builder().scripted().start().await;
    backend.script_check(CheckScript::Status(NOT_SERVING));
    let targets = [backend.addr().to_string(), dead.addr().to_string()];
    let targets = [targets[0].as_str(), &targets[1], "no-such-host.invalid:1"];
    let ended = check(&targets, &["--output", "json"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    let objects = ended.objects();
    let [sick, refused, unresolved] = &objects[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(sick["event"], "checked");
    assert_eq!(sick["target"], targets[0]);
    assert_eq!(sick["backend"], targets[0]);
    assert_eq!(sick["address"], targets[0]);
    assert_eq!(
        (&sick["service"], &sick["status"]),
        (&"".into(), &"NOT_SERVING".into())
    );
    assert_eq!((&sick["error"], &sick["code"]), (&().into(), &4.into()));
    assert_eq!(refused["error"], "connect: connection refused");
    assert_eq!(
        (&refused["status"], &refused["code"]),
        (&().into(), &2.into())
    );
    assert_eq!(
        (&unresolved["backend"], &unresolved["address"]),
        (&().into(), &().into())
    );
    assert_eq!(unresolved["target"], targets[2]);
    for object in &objects {
        assert_eq!(object.as_object().expect("an object").len(), 9);
    }
}

#[tokio::test]
async fn all_are_asked_at_the_same_time() {
    let backends = Backend::builder()
        .scripted()
        .start_each(["a", "b", "c", "d", "e", "f"])
        .await;
    for backend in &backends {
        backend.script_check(CheckScript::NeverAnswer);
    }
    let targets = backends
        .each_ref()
        .map(|backend| backend.addr().to_string());
    let targets = targets.each_ref().map(String::as_str);
    // Each waits for two seconds, and six times two are more than a test has.
    let ended = check(&targets, &["--timeout", "2s"]).await;
    assert_eq!((ended.code, ended.rows().len()), (3, 6), "{ended:?}");
}
