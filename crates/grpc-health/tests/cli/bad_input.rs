//! Arguments that make no sense, and servers that are none.

use testing::{Authority, Backend, Peer, PeerScript, TlsFront, dead_addr};

use super::run::{probe, run};

#[tokio::test]
async fn arguments_that_make_no_sense() {
    for (line, why) in [
        ("", "Usage: grpc-health <COMMAND>"),
        ("walk", "unrecognized subcommand 'walk'"),
        ("probe", "error: there is no address; give one by -addr\n"),
        (
            "probe -addr=",
            "error: there is no address; give one by -addr\n",
        ),
        ("probe -addr", "a value is required for '--addr <ADDRESS>'"),
        ("probe -adr :1", "unexpected argument '--adr'"),
        ("probe -addr :1 -tls false", "unexpected argument 'false'"),
        ("probe -addr :1 -tls=perhaps", "write `true` or `false`"),
        (
            "probe -addr shop.example",
            "there is no port; write `host:port`",
        ),
        (
            "probe -addr shop.example:http",
            "the port must be 0 to 65535",
        ),
        (
            "probe -addr https://shop.example:1",
            "without a scheme, and -tls for TLS",
        ),
        ("probe -addr unix:", "there is no path after `unix:`"),
        (
            "probe -addr unix:/run/x -tls -tls-no-verify",
            "there is no TLS over a Unix socket",
        ),
        (
            "probe -addr :1 -connect-timeout 5",
            "write a number with a unit",
        ),
        (
            "probe -addr :1 -connect-timeout soon",
            "write a number with a unit",
        ),
        (
            "probe -addr :1 -connect-timeout=0s",
            "it must be longer than 0 s",
        ),
        (
            "probe -addr :1 -rpc-timeout -1s",
            "it must be longer than 0 s",
        ),
        (
            "probe -addr :1 -rpc-header secret",
            "-rpc-header: write `name: value`",
        ),
        (
            "probe -addr :1 -rpc-header é:1",
            "-rpc-header: write `name: value`",
        ),
        ("probe -addr :1 -alts", "error: -alts: ALTS"),
        ("probe -addr :1 -spiffe", "error: -spiffe: the SPIFFE"),
        (
            "probe -addr :1 -tls-no-verify",
            "-tls-no-verify has no effect without -tls",
        ),
        (
            "probe -addr :1 -tls-ca-cert x",
            "-tls-ca-cert has no effect without -tls",
        ),
        (
            "probe -addr :1 -tls-client-cert x",
            "-tls-client-cert has no effect without -tls",
        ),
        (
            "probe -addr :1 -tls-client-key x",
            "-tls-client-key has no effect without -tls",
        ),
        (
            "probe -addr :1 -tls-server-name x",
            "-tls-server-name has no effect without -tls",
        ),
        (
            "probe -addr :1 -tls -tls-client-cert x",
            "-tls-client-cert needs -tls-client-key",
        ),
        (
            "probe -addr :1 -tls -tls-client-key x",
            "-tls-client-key needs -tls-client-cert",
        ),
        (
            "probe -addr :1 -tls -tls-no-verify -tls-ca-cert x",
            "-tls-ca-cert has no effect with -tls-no-verify",
        ),
        (
            "probe -addr :1 -tls -tls-no-verify -tls-server-name x",
            "-tls-server-name has no effect with -tls-no-verify",
        ),
        (
            "probe -addr :1 -tls -tls-server-name a/b",
            "`a/b` is not a valid server name",
        ),
        ("completions", "<SHELL>"),
        ("completions tcl", "invalid value 'tcl'"),
        ("man walk", "error: there is no command `walk`\n"),
    ] {
        let ran = run(line.split_whitespace()).await;
        ran.fails(1, why);
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
    }
}

#[tokio::test]
async fn servers_that_cannot_be_connected_to() {
    let dead = dead_addr();
    let silent = Peer::start(PeerScript::Silent).await;
    let http1 = Peer::start(PeerScript::SpeaksHttp1).await;
    let closes = Peer::start(PeerScript::ClosesAtOnce).await;
    let backend = Backend::start().await;
    let tls = TlsFront::of(&backend, &Authority::new()).await;
    for (addr, more, why) in [
        (dead.addr(), "", "connection refused"),
        (
            silent.addr(),
            "-connect-timeout 100ms",
            "no connection within",
        ),
        (http1.addr(), "", "HTTP/1"),
        (closes.addr(), "", "closed"),
        (tls.addr(), "", "TLS"),
        (
            backend.addr(),
            "-tls -tls-no-verify",
            "the peer speaks HTTP/2, not TLS",
        ),
        (
            silent.addr(),
            "-tls -tls-no-verify -connect-timeout 100ms",
            "no connection within",
        ),
    ] {
        let ran = probe(addr, more).await;
        ran.fails(2, why);
        let start = format!("error: no connection to {addr}: ");
        assert!(ran.stderr.starts_with(&start), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let ran = run(["probe", "-addr", "nobody.invalid:1"]).await;
    ran.fails(2, "name `nobody.invalid` does not resolve");
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_that_is_not_there() {
    let ran = run(["probe", "-addr", "unix:/nowhere/at/all.sock"]).await;
    ran.fails(
        2,
        "error: no connection to unix:/nowhere/at/all.sock: No such file",
    );
}
