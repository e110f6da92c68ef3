//! Users and passwords in URIs: refused, never sent, never shown.

use std::{convert::Infallible, fmt::Debug};

use futures_util::{StreamExt, stream};
use testing::{Backend, HttpProxy, Logs, refusal};
use tonic_health_channel::{Channel, Endpoint, Error, ErrorKind, Uri, discover};
use tower::discover::Change;

const WHY: &str = "a URI with a user or a password is refused; give credentials to \
                   `ChannelBuilder::call_credentials`";

const HIDDEN: [&str; 2] = ["somebody", "secret"];

#[track_caller]
fn hides(text: &str) {
    for hidden in HIDDEN {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[track_caller]
fn is_refused<T: Debug>(outcome: Result<T, Error>) {
    let error = outcome.expect_err("it has a password");
    assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{error}");
    assert!(error.message().contains(WHY), "{error}");
    hides(&format!("{error} {error:?}"));
}

// D291
#[test]
fn a_uri_with_a_password_is_refused_where_an_error_can_be_told() {
    for text in [
        "http://somebody:secret@127.0.0.1:1",
        "https://somebody:secret@127.0.0.1:1/",
        "http://somebody@127.0.0.1:1",
        "http://:secret@127.0.0.1:1",
        "somebody:secret@127.0.0.1:1",
        "http://somebody:sec/secret@127.0.0.1:1",
        "http://somebody:secret@somebody@127.0.0.1:1",
        "http://somebody:secret@127.0.0.1:70000",
        "http://somebody:sec ret@127.0.0.1:1",
        "ftp://somebody:secret@127.0.0.1:1",
    ] {
        is_refused(Endpoint::from_shared(text));
        is_refused(text.parse::<Endpoint>());
        is_refused(Endpoint::new(text));
        is_refused(discover::list([text]));
        is_refused(Channel::target(text).map(drop));
    }
    let uri = Uri::from_static("http://somebody:secret@127.0.0.1:1");
    is_refused(Endpoint::new(uri.clone()));
    is_refused(discover::list([uri.clone()]));
    is_refused(discover::list([Endpoint::from(uri.clone())]));
    let template = Endpoint::from(uri);
    is_refused(discover::dns("localhost:1", template.clone()));
    for target in ["localhost:1", "ipv4:127.0.0.1:1", "http://127.0.0.1:1"] {
        is_refused(Channel::target_with(target, template.clone()).map(drop));
    }
    for target in [
        "dns:///somebody:secret@localhost:1",
        "dns:somebody:secret@localhost:1",
        "dns://somebody:secret@127.0.0.1/localhost:1",
        "ipv4:somebody:secret@127.0.0.1:1",
        "ipv6:somebody:secret@[::1]:1",
        "somebody@localhost:1",
        "localhost:1,somebody:secret@localhost:2",
    ] {
        is_refused(Channel::target(target).map(drop));
    }
}

// D291
#[test]
fn paths_and_proxies_may_have_an_at_sign() {
    assert!(Endpoint::from_shared("http://127.0.0.1:1/a@b").is_ok());
    for target in ["file:///etc/a@b.json", "unix:/run/a@b", "unix-abstract:a@b"] {
        assert!(Channel::target(target).is_ok(), "{target}");
    }
    let endpoint = Endpoint::from_static("http://127.0.0.1:1");
    assert!(
        endpoint
            .http_proxy("http://somebody:secret@proxy:1")
            .is_ok()
    );
}

// D291
#[tokio::test]
async fn an_endpoint_that_was_given_a_password_is_not_dialled_and_does_not_show_it() {
    let logs = Logs::capture();
    let backend = Backend::start().await;
    let proxy = HttpProxy::start(backend.addr(), "HTTP/1.1 200 OK\r\n\r\n");
    let given = format!("http://somebody:secret@{}", backend.addr());
    let uri: Uri = given.parse().expect("a URI");
    let plain = Endpoint::from_shared(backend.uri()).expect("a URI");
    let leaked: &'static str = Box::leak(given.clone().into_boxed_str());
    for endpoint in [
        Endpoint::from(uri.clone()),
        Endpoint::from_static(leaked),
        Channel::from_static(leaked),
        Channel::builder(uri.clone()),
        Channel::from_shared(given.clone()).expect("a URI"),
        plain.clone().origin(uri.clone()),
        Endpoint::from(uri.clone())
            .http_proxy(&format!("http://{}", proxy.addr()))
            .expect("a proxy"),
    ] {
        hides(&format!("{endpoint:?} {}", endpoint.uri()));
        let change = Change::Insert(1, endpoint.clone());
        let source = stream::iter([Ok::<_, Infallible>(change)]).chain(stream::pending());
        for channel in [
            endpoint.connect_lazy(),
            Channel::balance_list([endpoint.clone()].into_iter()),
            Channel::balance(source).build(),
        ] {
            let text = refusal(&channel).await;
            assert!(text.contains(WHY), "{text}");
            hides(&text);
            hides(&format!(
                "{channel:?} {:?} {:?}",
                channel.status(),
                channel.backends()
            ));
        }
        let error = endpoint.connect().await.expect_err("it is not dialled");
        assert!(error.message().contains(WHY), "{error}");
        hides(&format!("{error} {error:?}"));
    }
    assert_eq!(backend.connections(), 0);
    assert!(proxy.asked().is_empty());
    hides(&format!("{:?}", logs.all()));
}

// D291
#[tokio::test]
async fn a_file_that_names_a_password_is_refused_without_showing_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("backends.json");
    std::fs::write(&path, r#"["http://somebody:secret@127.0.0.1:1"]"#).expect("written");
    let mut source = discover::file(&path).expect("a file");
    is_refused(source.next().await.expect("it does not end"));

    std::fs::write(&path, r#"["http://127.0.0.1:1"]"#).expect("written");
    let uri = Uri::from_static("http://somebody:secret@any");
    let source = discover::file(&path)
        .expect("a file")
        .template(Endpoint::from(uri));
    let text = refusal(&Channel::balance(source).build()).await;
    assert!(text.contains(WHY), "{text}");
    hides(&text);
}
