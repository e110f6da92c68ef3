//! How users write targets, and how the library does.

use std::{env, path::PathBuf};

use crate::exit::Exit;

/// `target` as the library spells it: a path, which a shell completes, is a file.
pub(crate) fn spelled(target: &str) -> Result<String, Exit> {
    if target.starts_with(':') {
        // No name has to be looked up for this host.
        return Ok(format!("ipv4:127.0.0.1{target}"));
    }
    if is_localhost(target) {
        // Its addresses are one host: serving at one of them is serving.
        return Ok(format!("passthrough:///{target}"));
    }
    if target.starts_with("unix:") {
        return Ok(unescaped_path(target));
    }
    let path = match target.strip_prefix("file:") {
        Some(path) if !path.starts_with('/') => path,
        Some(_) => return Ok(target.to_owned()),
        None if is_path(target) => target,
        None => return Ok(target.to_owned()),
    };
    let path = PathBuf::from(path);
    let folder = env::current_dir().map_err(Exit::bad_arguments)?;
    Ok(format!("file://{}", folder.join(path).display()))
}

/// Whether it is a file that lists backends.
pub(crate) fn is_file(target: &str) -> bool {
    target.starts_with("file:") || is_path(target)
}

/// `unix:/a%20b` and `unix:///a%20b` with the path that they mean as URIs. A relative path,
/// and one with a `%` that escapes nothing, is as it is.
pub(crate) fn unescaped_path(target: &str) -> String {
    let unescaped = || {
        let path = target.strip_prefix("unix:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        let mut rest = path.strip_prefix('/')?;
        let mut bytes = b"unix:/".to_vec();
        while let Some((before, escaped)) = rest.split_once('%') {
            let digits = escaped.get(..2)?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            bytes.extend(before.bytes());
            bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
            rest = &escaped[2..];
        }
        bytes.extend(rest.bytes());
        String::from_utf8(bytes).ok()
    };
    unescaped().unwrap_or_else(|| target.to_owned())
}

/// `localhost`, with or without a port.
fn is_localhost(target: &str) -> bool {
    let host = target.split_once(':').map_or(target, |(host, _)| host);
    host.eq_ignore_ascii_case("localhost")
}

/// What has a slash, and no scheme before it.
fn is_path(target: &str) -> bool {
    target
        .split_once('/')
        .is_some_and(|(before, _)| !before.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file() {
        let here = env::current_dir().expect("a current folder");
        let file = |path: &str| format!("file://{}", here.join(path).display());
        for (target, expected) in [
            ("/etc/b.json", "file:///etc/b.json".to_owned()),
            ("file:/etc/b.json", "file:/etc/b.json".to_owned()),
            ("file:b.json", file("b.json")),
            ("./b.json", file("./b.json")),
            ("conf/b.json", file("conf/b.json")),
            ("host:50051", "host:50051".to_owned()),
            ("dns:///host", "dns:///host".to_owned()),
            ("unix:run/a.sock", "unix:run/a.sock".to_owned()),
            (":50051", "ipv4:127.0.0.1:50051".to_owned()),
            ("localhost:1", "passthrough:///localhost:1".to_owned()),
            ("dns:///localhost:1", "dns:///localhost:1".to_owned()),
        ] {
            assert_eq!(spelled(target), Ok(expected));
        }
    }

    #[test]
    fn a_path_of_a_socket_may_be_escaped() {
        for (target, path) in [
            ("unix:///a%20b", "unix:/a b"),
            ("unix:/a%20b%25", "unix:/a b%"),
            ("unix:///%c3%B6", "unix:/ö"),
            ("unix:a%20b", "unix:a%20b"),
            ("unix:/50%", "unix:/50%"),
            ("unix:/%2", "unix:/%2"),
            ("unix:/%+1", "unix:/%+1"),
            ("unix:/%zz%20", "unix:/%zz%20"),
            ("unix:/%ö", "unix:/%ö"),
            ("unix:///%ff", "unix:///%ff"),
            ("unix:", "unix:"),
        ] {
            assert_eq!(unescaped_path(target), path);
        }
    }
}
