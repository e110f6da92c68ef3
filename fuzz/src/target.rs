//! Text to a channel's target, an endpoint, a proxy. None of them looks anything up.

use tonic_health_channel::{Channel, Endpoint, ErrorKind};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Channel::target(text) {
        Ok(builder) => drop(builder),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{error}");
            assert!(!error.message().is_empty());
        }
    }
    match Endpoint::from_shared(text.to_owned()) {
        Ok(endpoint) => {
            // What an endpoint says of itself is an endpoint again, the same.
            let said = endpoint.uri().to_string();
            let again = Endpoint::from_shared(said.clone());
            let again = again.unwrap_or_else(|error| panic!("{said} of {text}: {error}"));
            assert_eq!(again.uri(), endpoint.uri());
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{error}"),
    }
    let endpoint = Endpoint::from_static("http://backend.test");
    let proxied = endpoint.http_proxy(text).map(drop);
    if let Err(error) = proxied {
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
    }
}
