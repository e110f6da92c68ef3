//! Arguments that make no sense end the command before it asks anybody: by 1, and with a
//! text that says which.

use super::run::run;

async fn check(arguments: &str, why: &str) {
    let arguments: Vec<_> = arguments.split(' ').collect();
    let ended = run(&arguments).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(ended.stderr.contains(why), "{arguments:?}: {ended:?}");
    assert!(ended.stderr.starts_with("error: "), "{ended:?}");
}

#[tokio::test]
async fn each_mistake_has_its_own_text() {
    for (arguments, why) in [
        ("watch", "<TARGET>"),
        ("watch host:1 --nonsense", "--nonsense"),
        ("watch host:1 --until never", "any-serving"),
        ("watch host:1 --output xml", "json"),
        ("watch host:1 --timeout soon", "--timeout"),
        ("check host:1 --timeout 0s", "longer than 0 s"),
        ("check host:1 --every 1ms", "at least 100ms"),
        ("check http://", "`http://`"),
        ("watch nonsense://host", "`nonsense` is not a known scheme"),
        ("watch host:port", "target `host:port`"),
        ("watch ipv4:1.2.3", "not an IPv4 address"),
        ("list host:1 other:2", "other:2"),
        ("list dns://host", "dns:///host:port"),
        (
            "check host:1 --tls --tls-ca-cert /no/such/file",
            "cannot read /no/such/file",
        ),
        ("check host:1 --tls --tls-ca-cert Cargo.toml", "certificate"),
        ("check host:1 --tls-ca-cert Cargo.toml", "--tls"),
        ("check host:1 --tls --tls-client-cert a", "--tls-client-key"),
        ("check http://host:1 --tls", "which --tls does not permit"),
        (
            "check unix:/run/a.sock --tls",
            "which --tls does not permit",
        ),
    ] {
        check(arguments, why).await;
    }
}
