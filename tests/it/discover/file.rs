//! A file that names the backends, and the ways in which files change.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt};
use tempfile::TempDir;
use testing::{
    Backend, hello, quick_backoff, refusal, spread, until, until_ready, until_that, within,
};
use tonic_health_channel::{
    Channel,
    ConnectivityState::{Ready, TransientFailure},
    Endpoint,
    channel::Change,
    discover::{self, File},
    status::CauseKind,
};

/// A file in a folder of its own.
struct Listed {
    folder: TempDir,
}

impl Listed {
    fn nowhere() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
        }
    }

    fn naming(backends: &[&Backend]) -> Self {
        let file = Self::nowhere();
        file.write(&list(backends));
        file
    }

    fn path(&self) -> PathBuf {
        self.beside("backends.json")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("the file can be written");
    }

    fn source(&self) -> File {
        discover::file(self.path()).expect("a path to a file")
    }

    fn channel(&self) -> Channel {
        let builder = Channel::balance(self.source());
        builder.connect_backoff(quick_backoff()).build()
    }
}

fn list(backends: &[&Backend]) -> String {
    let uris: Vec<_> = backends.iter().map(|backend| backend.uri()).collect();
    format!("{uris:?}")
}

/// Awaits that exactly `backends` are there and READY, in this order.
async fn until_named(channel: &Channel, backends: &[&Backend]) {
    let labels: Vec<_> = backends.iter().map(|b| b.addr().to_string()).collect();
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    until_ready(channel, &labels).await;
}

/// Awaits that the channel tells what is wrong with the file.
async fn until_wrong(channel: &Channel, what: &str) {
    let told = until_that(channel, "an error of the file", |status| {
        let cause = status.cause().map(ToString::to_string);
        cause.is_some_and(|cause| cause.contains(what))
    });
    assert_eq!(
        told.await.cause().expect("just seen").kind(),
        CauseKind::NameResolver
    );
}

/// What the source says next, in short.
async fn next(source: &mut File) -> String {
    let said = within("word of the file", source.next()).await;
    match said.expect("a file has no end") {
        Ok(Change::Insert(uri, _)) => format!("+{uri}"),
        Ok(Change::Remove(uri)) => format!("-{uri}"),
        Err(error) => error.message().to_owned(),
    }
}

// D29
#[tokio::test]
async fn a_file_that_is_written_anew_changes_the_set() {
    let [a, b, c] = Backend::builder().start_each(["A", "B", "C"]).await;
    let file = Listed::naming(&[&a, &b]);
    let channel = file.channel();
    until_named(&channel, &[&a, &b]).await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [2, 2]);

    file.write(&list(&[&c, &b]));
    until_named(&channel, &[&b, &c]).await;
    assert_eq!(spread(&channel, 4, &[&b, &c]).await, [2, 2]);
    a.until_open_connections(0).await;
    assert_eq!(b.connections(), 1, "it was named all along");

    file.write("[]");
    until(&channel, TransientFailure).await;
    assert!(refusal(&channel).await.contains("no backends"));
}

// D29
#[tokio::test]
async fn a_file_that_is_replaced_by_another_changes_the_set() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let file = Listed::naming(&[&a]);
    let channel = file.channel();
    until_named(&channel, &[&a]).await;
    for (now, text) in [(&b, list(&[&b])), (&a, list(&[&a]))] {
        let draft = file.beside(".backends.json.swp");
        fs::write(&draft, text).expect("written");
        fs::rename(&draft, file.path()).expect("renamed");
        until_named(&channel, &[now]).await;
    }
}

/// `backends.json` is a link into `..data`, which is a link to one version of the
/// folder. To change the file is to replace `..data`.
#[cfg(unix)]
struct ConfigMap<'a>(&'a Path);

#[cfg(unix)]
impl ConfigMap<'_> {
    fn publish(&self, version: &str, text: &str) {
        use std::os::unix::fs::symlink;
        let Self(folder) = self;
        fs::create_dir(folder.join(version)).expect("a folder for the version");
        fs::write(folder.join(version).join("backends.json"), text).expect("written");
        symlink(version, folder.join("..data_tmp")).expect("linked");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("replaced");
    }
}

// D29
#[cfg(unix)]
#[tokio::test]
async fn a_config_map_that_is_replaced_changes_the_set() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let file = Listed::nowhere();
    let map = ConfigMap(file.folder.path());
    map.publish("..v1", &list(&[&a]));
    std::os::unix::fs::symlink("..data/backends.json", file.path()).expect("linked");
    let channel = file.channel();
    until_named(&channel, &[&a]).await;
    map.publish("..v2", &list(&[&a, &b]));
    until_named(&channel, &[&a, &b]).await;
    fs::remove_dir_all(file.beside("..v1")).expect("removed");
    map.publish("..v3", &list(&[&b]));
    until_named(&channel, &[&b]).await;
}

// D29
#[tokio::test]
async fn a_file_that_is_no_list_keeps_the_last_one_and_says_why() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let file = Listed::naming(&[&a]);
    let channel = file.channel();
    until_named(&channel, &[&a]).await;

    let whole = list(&[&a, &b]);
    file.write(&whole[..whole.len() / 2]);
    until_wrong(&channel, "backends.json: EOF while parsing").await;
    assert_eq!(channel.state(), Ready);
    hello(&channel).await.expect("the last list stays");
    file.write(&whole);
    until_named(&channel, &[&a, &b]).await;
    assert_eq!(channel.status().cause(), None, "the file is well again");

    fs::remove_file(file.path()).expect("removed");
    until_wrong(&channel, "backends.json: No such file").await;
    assert_eq!(spread(&channel, 4, &[&a, &b]).await, [2, 2]);
    // The very list that was the last one.
    file.write(&whole);
    until_that(&channel, "the file to be well", |status| {
        status.cause().is_none()
    })
    .await;
}

// D29
#[tokio::test]
async fn an_error_is_told_once_for_each_content() {
    let file = Listed::nowhere();
    let mut source = file.source();
    let path = file.path().display().to_string();
    let missing = next(&mut source).await;
    assert!(missing.starts_with(&format!("{path}: ")), "{missing}");

    // Signs of a change, and the same content.
    fs::write(file.beside("other"), "").expect("written");
    file.write("");
    let empty = format!("{path}: the file is empty; write [] for no backends");
    assert_eq!(next(&mut source).await, empty);
    file.write("");
    file.write(r#"["http://a:1", "b:2"]"#);
    let wrong = next(&mut source).await;
    assert!(wrong.contains("endpoint `b:2`: "), "{wrong}");
    file.write(r#"["http://a:1", "http://b:2"]"#);
    assert_eq!(next(&mut source).await, "+http://a:1/");
    assert_eq!(next(&mut source).await, "+http://b:2/");
    assert!(source.next().now_or_never().is_none());
}

// D29
#[tokio::test]
async fn a_file_may_come_later_than_its_channel() {
    let backend = Backend::start().await;
    let file = Listed::nowhere();
    let channel = file.channel();
    until(&channel, TransientFailure).await;
    let text = refusal(&channel).await;
    let path = file.path().display().to_string();
    assert!(
        text.contains(&format!("name resolver error: {path}: No such file")),
        "{text}"
    );
    file.write(&list(&[&backend]));
    until_named(&channel, &[&backend]).await;
    hello(&channel).await.expect("it is there now");
}

#[tokio::test]
async fn every_backend_is_reached_as_the_template_says() {
    let [a, b] = Backend::builder().start_each(["A", "B"]).await;
    let file = Listed::naming(&[&a, &b]);
    let template = Endpoint::from_static("http://any");
    let template = template.origin("http://greeter.test".parse().expect("a URI"));
    let channel = Channel::balance(file.source().template(template)).build();
    until_named(&channel, &[&a, &b]).await;
    assert_eq!(spread(&channel, 2, &[&a, &b]).await, [1, 1]);
    for backend in [&a, &b] {
        assert_eq!(backend.last_authority().as_deref(), Some("greeter.test"));
    }
}

// D292
#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_replaced_above_the_file_changes_the_set_within_a_second() {
    use std::os::unix::fs::symlink;
    let temp = Listed::nowhere();
    let at = |name: &str| temp.beside(name);
    for version in ["v1", "v2", "v3"] {
        fs::create_dir_all(at(version).join("shop")).expect("made");
        let list = format!(r#"["http://{version}:1"]"#);
        fs::write(at(version).join("shop/backends.json"), list).expect("written");
    }
    let swap = |link: &str, to: &str| {
        symlink(to, at("link_tmp")).expect("linked");
        fs::rename(at("link_tmp"), at(link)).expect("replaced");
    };
    swap("..data", "v1");
    // The folder itself, one above it, and a file elsewhere.
    symlink("..data/shop", at("shop")).expect("linked");
    symlink(at("..data/shop/backends.json"), at("backends.json")).expect("linked");
    let paths = [
        "shop/backends.json",
        "..data/shop/backends.json",
        "backends.json",
    ];
    for path in paths {
        swap("..data", "v1");
        let mut source = discover::file(at(path)).expect("a path");
        assert_eq!(next(&mut source).await, "+http://v1:1/", "{path}");
        for (to, from) in [("v2", "v1"), ("v3", "v2")] {
            let start = Instant::now();
            swap("..data", to);
            assert_eq!(
                next(&mut source).await,
                format!("+http://{to}:1/"),
                "{path}"
            );
            assert!(start.elapsed() < Duration::from_secs(1), "{path}");
            assert_eq!(
                next(&mut source).await,
                format!("-http://{from}:1/"),
                "{path}"
            );
        }
        // As `ln -sfn` does: for a moment it is not there.
        fs::remove_file(at("..data")).expect("removed");
        let missing = next(&mut source).await;
        assert!(missing.contains("No such file"), "{missing}");
        swap("..data", "v1");
        assert_eq!(next(&mut source).await, "+http://v1:1/", "{path}");
        assert_eq!(next(&mut source).await, "-http://v3:1/", "{path}");
        let file = at("v1/shop/backends.json");
        fs::write(&file, r#"["http://again:1"]"#).expect("written");
        assert_eq!(next(&mut source).await, "+http://again:1/", "{path}");
        fs::write(&file, r#"["http://v1:1"]"#).expect("written");
    }
}

// D293
#[cfg(unix)]
#[tokio::test]
async fn a_fifo_and_a_device_are_refused_at_once() {
    let file = Listed::nowhere();
    let made = std::process::Command::new("mkfifo")
        .arg(file.path())
        .status();
    assert!(made.expect("a command").success());
    let mut source = file.source();
    let refused = next(&mut source).await;
    assert!(
        refused.ends_with("not a regular file, but a FIFO"),
        "{refused}"
    );
    fs::remove_file(file.path()).expect("removed");
    let missing = next(&mut source).await;
    assert!(missing.contains("No such file"), "{missing}");
    file.write(r#"["http://a:1"]"#);
    assert_eq!(next(&mut source).await, "+http://a:1/");

    for (path, kind) in [("/dev/zero", "a device"), ("/dev", "a folder")] {
        let mut source = discover::file(path).expect("a path");
        let refused = next(&mut source).await;
        assert_eq!(refused, format!("{path}: not a regular file, but {kind}"));
    }
}

// D293
#[tokio::test]
async fn a_byte_order_mark_is_taken() {
    let file = Listed::nowhere();
    file.write("\u{feff}[\"http://a:1\"]");
    assert_eq!(next(&mut file.source()).await, "+http://a:1/");
}
