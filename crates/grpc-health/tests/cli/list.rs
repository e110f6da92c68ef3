//! `list`: what a server says of all its services (gRFC A90).

use testing::{Backend, GREETER, HealthKind, NOT_SERVING, UNKNOWN, dead_addr};

use super::run::{COMMAND, run, run_command};

#[tokio::test]
async fn services_are_listed_by_name() {
    let builder = Backend::builder().scripted().status("z", UNKNOWN);
    let backend = builder.status("a", NOT_SERVING).start().await;
    let at = backend.addr().to_string();
    let ended = run(&["list", &at]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let expected = [
        ["\"\"", "SERVING"],
        ["a", "NOT_SERVING"],
        [GREETER, "SERVING"],
        ["z", "UNKNOWN"],
    ];
    assert_eq!(ended.rows(), expected);

    let ended = run(&["list", &at, "--fail-unhealthy"]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(ended.rows(), expected);
}

#[tokio::test]
async fn a_service_is_a_json_object() {
    let backend = Backend::builder().scripted().start().await;
    let at = backend.addr().to_string();
    let ended = run(&["list", &at, "--output", "json", "--fail-unhealthy"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let objects = ended.objects();
    let services: Vec<_> = objects.iter().map(|object| &object["service"]).collect();
    assert_eq!(services, ["", GREETER]);
    assert_eq!(objects[1]["event"], "listed");
    assert_eq!(objects[1]["address"], at);
    assert_eq!(
        (&objects[1]["status"], &objects[1]["code"]),
        (&"SERVING".into(), &0.into())
    );
}

#[tokio::test]
async fn a_server_that_does_not_list_is_3() {
    // tonic's health service is older than `List`.
    let start = Backend::builder().health(HealthKind::TonicHealth);
    let backend = start.start().await;
    let at = backend.addr().to_string();
    let ended = run(&["list", &at]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "{ended:?}");
    let expected = format!(
        "error: {at}: UNIMPLEMENTED (no health service, or one without `List`; `check` can ask \
         about a service by name)"
    );
    assert!(ended.stderr.starts_with(&expected), "{ended:?}");
}

#[tokio::test]
async fn no_connection_is_2() {
    let dead = dead_addr();
    let at = dead.addr().to_string();
    let ended = run(&["list", &at]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    let expected = format!("error: {at}: connect: connection refused\n");
    assert_eq!(ended.stderr, expected);
}

#[tokio::test]
async fn each_address_of_a_target_lists_its_own() {
    let builder = Backend::builder().scripted();
    let [a, b] = builder.start_side_by_side(["a", "b"]).await;
    b.set_not_serving(GREETER).await;
    let target = format!("ipv4:{},{}", a.addr(), b.addr());
    let [at_a, at_b] = [&a, &b].map(|backend| backend.addr().to_string());
    let ended = run(&["list", &target]).await;
    let expected = [
        [&at_a, "\"\"", "SERVING"],
        [&at_a, GREETER, "SERVING"],
        [&at_b, "\"\"", "SERVING"],
        [&at_b, GREETER, "NOT_SERVING"],
    ];
    assert_eq!(ended.rows(), expected, "{ended:?}");
    // One that does not tell does not silence the other.
    b.kill().await;
    let ended = run(&["list", &target]).await;
    assert_eq!((ended.code, ended.rows().len()), (2, 2), "{ended:?}");
    assert!(
        ended.stderr.starts_with(&format!("error: {at_b}: ")),
        "{ended:?}"
    );
}

fn long_name(letter: &str) -> String {
    letter.repeat(65_534)
}

#[tokio::test]
async fn a_very_long_name_is_listed() {
    for length in [65_533, 65_534, 65_535, 65_536, 1 << 20] {
        let name = "n".repeat(length);
        let builder = Backend::builder().scripted().no_services();
        let backend = builder.status(&name, NOT_SERVING).start().await;
        let at = backend.addr().to_string();
        let ended = run(&["list", &at]).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{length}");
        assert_eq!(ended.rows(), [[name.as_str(), "NOT_SERVING"]]);
        let ended = run(&["list", &at, "--output", "json"]).await;
        assert_eq!(ended.objects()[0]["service"], name);
    }
}

/// Not even the longest name makes the other rows long.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn many_names_take_little_memory() {
    const NAMES: usize = 20_000;
    const MOST_KIB: usize = 64 << 10;
    let names = (1..NAMES).map(|n| format!("service-{n}"));
    let long = long_name("n");
    let builder = Backend::builder().scripted().no_services().serving(&long);
    let builder = names.fold(builder, |all, name| all.serving(&name));
    let backend = builder.start().await;
    let at = backend.addr().to_string();
    for format in ["text", "json"] {
        // The system ends a command that takes more, and this shell sees to it.
        let mut limited = tokio::process::Command::new("sh");
        let script = format!("ulimit -d {MOST_KIB} && exec \"$0\" \"$@\"");
        limited.args([
            "-c",
            &script,
            COMMAND,
            "list",
            &at,
            "--timeout",
            "9s",
            "--output",
            format,
        ]);
        let ended = run_command(limited).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{format}");
        let heading = usize::from(format == "text");
        assert_eq!(ended.stdout.lines().count(), NAMES + heading);
        assert!(ended.stdout.len() < 8 << 20, "{} bytes", ended.stdout.len());
    }
}
