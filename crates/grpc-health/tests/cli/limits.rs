//! What the system of this host gives the command: few open files, odd paths.

use std::os::unix::fs::symlink;

use tempfile::TempDir;
use testing::{Backend, UnixDoor};

use super::run::{COMMAND, Ended, run, run_command};

/// Runs the command below a limit of the shell's, `-n 64` or `-S -n 64`.
async fn limited(limit: &str, arguments: &[&str]) -> Ended {
    let mut limited = tokio::process::Command::new("sh");
    limited.args([
        "-c",
        &format!("ulimit {limit} && exec \"$0\" \"$@\""),
        COMMAND,
    ]);
    limited.args(arguments);
    run_command(limited).await
}

/// `n` backends at one server, as far as anything can tell: names of its socket.
fn targets(folder: &TempDir, door: &UnixDoor, n: usize) -> Vec<String> {
    let target = |n: usize| {
        let link = folder.path().join(n.to_string());
        symlink(door.path(), &link).expect("a link");
        format!("unix:{}", link.display())
    };
    (0..n).map(target).collect()
}

#[tokio::test]
async fn a_soft_limit_of_open_files_is_raised() {
    let backend = Backend::start().await;
    let target = backend.addr().to_string();
    // Enough to load the program, and too few for a runtime and a connection.
    let ended = limited("-S -n 5", &["check", &target]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.rows(), [[target.as_str(), "SERVING"]]);
    let ended = limited("-S -n 5", &["probe", "-addr", &target]).await;
    ended.is_serving();
}

#[tokio::test]
async fn too_many_backends_for_the_open_files_is_our_limit() {
    let backend = Backend::builder().scripted().start().await;
    let door = UnixDoor::to(backend.addr());
    let folder = TempDir::new().expect("a folder");
    let targets = targets(&folder, &door, 60);
    let is_told = |text: &str| {
        text.contains("this command may open 32 files (ulimit -n), but its connections need more")
            && !text.contains("os error")
    };
    let mut check = vec!["check"];
    check.extend(targets.iter().map(String::as_str));
    let ended = limited("-n 32", &check).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        is_told(&ended.stderr) && ended.stderr.lines().count() == 1,
        "{ended:?}"
    );
    assert!(ended.stdout.lines().any(is_told), "{ended:?}");

    let mut watch = check.clone();
    watch[0] = "watch";
    watch.extend(["--timeout", "1s"]);
    let ended = limited("-n 32", &watch).await;
    assert!(ended.stdout.lines().any(is_told), "{ended:?}");

    let list = folder.path().join("backends.json");
    std::fs::write(&list, format!("{targets:?}")).expect("a file");
    let list = list.to_str().expect("a plain name");
    let ended = limited("-n 32", &["list", list]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.lines().any(is_told), "{ended:?}");
}

#[tokio::test]
async fn a_path_of_a_socket_may_have_spaces() {
    let backend = Backend::builder().scripted().start().await;
    let door = UnixDoor::to(backend.addr());
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path().to_str().expect("a plain name");
    for (name, written) in [
        ("a b", "a%20b"),
        ("a b", "a b"),
        ("50%", "50%"),
        ("50%", "50%25"),
        ("ö", "%C3%b6"),
        ("%zz", "%zz"),
    ] {
        let link = format!("{folder}/{name}");
        let _ = std::fs::remove_file(&link);
        symlink(door.path(), &link).expect("a link");
        for scheme in ["unix://", "unix:"] {
            let at = format!("{scheme}{folder}/{written}");
            run(["probe", "-addr", &at]).await.is_serving();
            for command in ["check", "list"] {
                let ended = run([command, &at]).await;
                assert_eq!(
                    (ended.code, ended.stderr.as_str()),
                    (0, ""),
                    "{at}: {ended:?}"
                );
            }
            let ended = run(["watch", &at, "--until", "serving", "--timeout", "9s"]).await;
            assert_eq!(
                (ended.code, ended.stderr.as_str()),
                (0, ""),
                "{at}: {ended:?}"
            );
        }
    }
}
