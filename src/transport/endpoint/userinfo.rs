//! Users and passwords in a URI: refused, because gRPC sends them nowhere, and never shown.

use http::{Uri, uri::Authority};

/// Why such a URI is refused, and where credentials go.
pub(crate) const USERINFO: &str = "a URI with a user or a password is refused; give credentials to \
                                   `ChannelBuilder::call_credentials`";

/// Stands in for an authority that cannot be read without its userinfo.
const UNREADABLE: &str = "refused.invalid";

/// `uri` without its userinfo, and whether it had any.
pub(super) fn without_userinfo(uri: Uri) -> (Uri, bool) {
    let text = uri.authority().map_or("", Authority::as_str);
    let Some((_, host_and_port)) = text.rsplit_once('@') else {
        return (uri, false);
    };
    let bare = host_and_port.parse();
    let bare = bare.unwrap_or_else(|_| Authority::from_static(UNREADABLE));
    let mut parts = uri.into_parts();
    parts.authority = Some(bare);
    (Uri::from_parts(parts).unwrap_or_default(), true)
}

/// The target, or the URI, as an error may show it. A password may itself have any of the
/// characters that end one, so nothing before the last `@` is shown but a scheme.
pub(crate) fn hide_userinfo(text: &str) -> String {
    let Some((hidden, rest)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let is_scheme = |scheme: &&str| scheme.chars().all(|c| c.is_ascii_alphanumeric());
    let scheme = hidden.split_once("://").map(|(scheme, _)| scheme);
    match scheme.filter(is_scheme) {
        Some(scheme) => format!("{scheme}://…@{rest}"),
        None => format!("…@{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{hide_userinfo, without_userinfo};

    // D291
    #[test]
    fn a_uri_loses_its_userinfo() {
        for (given, bare, had_any) in [
            ("http://me:secret@host:1/", "http://host:1/", true),
            ("http://me@host", "http://host/", true),
            ("http://me:s@cret@host:1", "http://host:1/", true),
            ("https://me:secret@[::1]:1", "https://[::1]:1/", true),
            ("me:secret@host:1", "host:1", true),
            ("http://host:1/a@b", "http://host:1/a@b", false),
            ("/a@b", "/a@b", false),
        ] {
            let uri = given.parse().expect(given);
            let (uri, had) = without_userinfo(uri);
            assert_eq!(
                (uri.to_string(), had),
                (bare.to_owned(), had_any),
                "{given}"
            );
        }
    }

    // D291
    #[test]
    fn what_is_shown_has_no_userinfo() {
        for (given, shown) in [
            ("http://host:1", "http://host:1"),
            ("http://me:secret@host:1", "http://…@host:1"),
            ("http://me:se/cret@host", "http://…@host"),
            ("http://me:se@cret@host", "http://…@host"),
            ("me:se://cret@host", "…@host"),
            ("dns:///me:secret@host", "dns://…@host"),
        ] {
            assert_eq!(hide_userinfo(given), shown);
        }
    }
}
