//! A set of backends that a file names.
//!
//! ```text
//!              ┌──── something happens in its folder, or 30 s pass ────┐
//!              ▼                                                       │
//!   folder watched ──► file read ──► the same as last time ────────────┤
//!                          ├───────► a list: Insert each, Remove the ──┤
//!                          │         rest                              │
//!                          └───────► no list: Err; the last one stays ─┘
//! ```

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, stream};
use tower::discover::Change;

use super::{
    backend::Backend,
    file_entry::Entry,
    watched_file::{Content, WatchedFile},
};
use crate::{error::Error, transport::Endpoint};

/// The backends that a file names. Made by [`file()`].
#[must_use = "a source names no backend until it is polled, such as by a channel"]
pub struct File {
    path: PathBuf,
    state: State,
}

enum State {
    /// What it will be read with, until it is polled.
    Made(Option<Box<Reader>>),
    Running(Pin<Box<dyn Stream<Item = Item> + Send>>),
}

type Item = Result<Change<String, Backend>, Error>;

/// The backends whose URIs are in the file at `path`, as they are there from time to
/// time: a JSON list. A backend is known by its URI.
///
/// ```json
/// ["http://10.0.0.1:50051", "http://10.0.0.2:50051"]
/// ```
///
/// An entry may also be an object, with the attributes of a [`Backend`]. All fields but `uri` may
/// be left out. A change of attributes keeps the connection.
///
/// ```json
/// [
///   {"uri": "http://10.0.0.1:50051", "weight": 2, "hashKey": "pod-0",
///    "locality": {"region": "eu", "zone": "eu-1a", "subZone": "rack-7"}},
///   {"uri": "http://10.9.0.1:50051", "priority": 1}
/// ]
/// ```
///
/// A change is taken over about a tenth of a second after it was made, however it was
/// made: by writing, by renaming another file over it, or as in a ConfigMap of
/// Kubernetes by replacing a link to its folder, or to any folder above. Where the system does not tell of
/// changes, as on some network file systems, it takes up to 30 seconds.
///
/// The file is taken whole or not at all. If it is missing, half-written, empty, or no
/// such list, or if it is a FIFO or a device, what it last named stays and the channel tells why: once, until there
/// is something else to read. That goes for the first read too, so that a file may
/// come later than the channel; until it does, calls fail with the reason. The list
/// without an entry, `[]`, is taken at its word. A URI that is listed twice is one
/// backend, with the attributes of the last entry.
///
/// Nothing is read or watched before the first poll, and never in a task of the
/// runtime.
///
/// # Errors
///
/// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if `path` does not end in the name of a file.
///
/// ```no_run
/// use std::time::Duration;
/// use tonic_health_channel::{Channel, Endpoint, discover};
///
/// # fn example() -> Result<(), tonic_health_channel::Error> {
/// let like = Endpoint::from_static("http://any").connect_timeout(Duration::from_secs(5));
/// let backends = discover::file("/etc/greeter/backends.json")?.template(like);
/// let channel = Channel::balance(backends).build();
/// # Ok(())
/// # }
/// ```
pub fn file(path: impl Into<PathBuf>) -> Result<File, Error> {
    let path = path.into();
    let reader = Reader::new(
        WatchedFile::new(path.clone())?,
        Endpoint::from_static("http://any"),
    );
    Ok(File {
        path,
        state: State::Made(Some(Box::new(reader))),
    })
}

impl File {
    /// Reaches every backend as `template` says, each at its own URI. To be called
    /// before the first poll; the options of an [`Endpoint`] are their defaults
    /// otherwise. A template with a user or a password reaches none.
    pub fn template(mut self, template: Endpoint) -> Self {
        if let State::Made(Some(reader)) = &mut self.state {
            reader.template = template;
        }
        self
    }
}

impl Stream for File {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let changes = match &mut self.state {
            State::Running(changes) => changes,
            State::Made(reader) => {
                let reader = reader.take();
                let changes = stream::unfold(reader, async |reader| {
                    let mut reader = reader?;
                    Some((reader.next().await, Some(reader)))
                });
                self.state = State::Running(Box::pin(changes));
                return self.poll_next(cx);
            }
        };
        changes.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

struct Reader {
    file: WatchedFile,
    template: Endpoint,
    /// By the last list there was.
    named: HashSet<String>,
    ahead: VecDeque<Item>,
}

impl Reader {
    fn new(file: WatchedFile, template: Endpoint) -> Self {
        Self {
            file,
            template,
            named: HashSet::new(),
            ahead: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ahead.pop_front() {
                return item;
            }
            match self.file.next().await {
                Ok(content) => {
                    let backends = backends(content);
                    self.take(backends);
                }
                // The channel asks again, after a pause that grows.
                Err(why) => return Err(self.file.error(&why)),
            }
        }
    }

    fn take(&mut self, backends: Result<Vec<Backend>, String>) {
        let backends = match backends {
            Ok(backends) => backends,
            Err(why) => {
                self.ahead.push_back(Err(self.file.error(&why)));
                return;
            }
        };
        let name = |backend: &Backend| backend.endpoint().name();
        let names: HashSet<String> = backends.iter().map(name).collect();
        // First what is new, so that the set is not empty in between. What is not
        // new is named too: it costs nothing, and ends an error that was told.
        let template = &self.template;
        let insert = |backend: Backend| {
            let name = backend.endpoint().name();
            Change::Insert(name, backend.reached_as(template))
        };
        let inserts = backends.into_iter().map(insert);
        let gone = self.named.difference(&names).cloned();
        self.ahead
            .extend(inserts.chain(gone.map(Change::Remove)).map(Ok));
        self.named = names;
    }
}

fn backends(content: &Content) -> Result<Vec<Backend>, String> {
    parse(content.as_ref().map_err(Clone::clone)?)
}

/// What `json` names, each of which can be dialled, or what is wrong and in which
/// line.
fn parse(json: &[u8]) -> Result<Vec<Backend>, String> {
    match json.trim_ascii_start().first() {
        Some(b'[') => {}
        Some(_) => return Err(r#"not a list like ["http://10.0.0.1:50051"]"#.to_owned()),
        None => return Err("the file is empty; write [] for no backends".to_owned()),
    }
    let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(entries.into_iter().map(|Entry(backend)| backend).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, num::NonZeroU32, time::Duration};

    use futures_util::StreamExt;
    use tempfile::TempDir;
    use tokio::time::{Instant, timeout};

    use super::{Backend, Change, Endpoint, File, Reader, State, WatchedFile, file, parse};
    use crate::attributes::Locality;

    /// The changes in short: `+uri`, `-uri`, or an error.
    async fn next(source: &mut File) -> String {
        match source.next().await.expect("it never ends") {
            Ok(Change::Insert(uri, _)) => format!("+{uri}"),
            Ok(Change::Remove(uri)) => format!("-{uri}"),
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn refused(json: &str, why: &str) {
        let error = parse(json.as_bytes()).expect_err(json);
        assert_eq!(error, why, "{json}");
    }

    #[test]
    fn a_list_is_taken_or_told_what_is_wrong_and_where() {
        let two = "[\n  \"http://10.0.0.1:50051\",\n  \"http://b.test\"\n]\n";
        assert_eq!(parse(two.as_bytes()).map(|list| list.len()), Ok(2));
        assert_eq!(parse(b"[]").map(|list| list.len()), Ok(0));

        let empty = "the file is empty; write [] for no backends";
        refused("", empty);
        refused(" \n", empty);
        refused(
            "[\"http://a:1\",",
            "EOF while parsing a value at line 1 column 14",
        );
        refused(
            "[\n  \"http://a:1\",\n  \"10.0.0.2:50051\"\n]",
            "endpoint `10.0.0.2:50051`: there is no scheme; write `http://host:port` \
             at line 3 column 18",
        );
        refused(
            "[5]",
            "invalid type: integer `5`, expected a URI like \"http://10.0.0.1:50051\", or an object \
             with a \"uri\" at line 1 column 2",
        );
        let no_list = r#"not a list like ["http://10.0.0.1:50051"]"#;
        refused("{\"backends\": []}", no_list);
        refused("http://a:1", no_list);
        refused("[] []", "trailing characters at line 1 column 4");
    }

    // D420
    #[test]
    fn an_entry_may_have_attributes() {
        let json = br#"[
            {"uri": "http://a:1", "weight": 3, "priority": 2, "hashKey": "pod-0",
             "locality": {"region": "eu", "zone": "eu-1a", "subZone": "7"}},
            {"uri": "http://b:1"},
            "http://c:1"
        ]"#;
        let locality = Locality {
            region: "eu".to_owned(),
            zone: "eu-1a".to_owned(),
            sub_zone: "7".to_owned(),
        };
        let endpoint = Endpoint::from_static;
        let a = Backend::new(endpoint("http://a:1"))
            .weight(NonZeroU32::new(3).unwrap())
            .priority(2)
            .hash_key("pod-0")
            .locality(locality);
        let [b, c] = ["http://b:1", "http://c:1"].map(|uri| Backend::new(endpoint(uri)));
        assert_eq!(parse(json), Ok(vec![a, b, c]));

        refused(
            r#"[{"uri": "http://a:1", "weight": 0}]"#,
            "invalid value: integer `0`, expected a nonzero u32 at line 1 column 34",
        );
        refused(
            r#"[{"weight": 2}]"#,
            "missing field `uri` at line 1 column 14",
        );
        refused(
            r#"[{"uri": "http://a:1", "wieght": 2}]"#,
            "unknown field `wieght`, expected one of `uri`, `weight`, `priority`, `locality`, \
             `hashKey` at line 1 column 31",
        );
        refused(
            r#"[{"uri": "a:1"}]"#,
            "endpoint `a:1`: there is no scheme; write `http://host:port` at line 1 column 15",
        );
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        for path in ["", "/", "/etc/.."] {
            assert!(file(path).is_err(), "{path}");
        }
    }

    // D29
    #[tokio::test(start_paused = true)]
    async fn where_nothing_tells_of_changes_it_is_read_every_30_seconds() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("backends.json");
        fs::write(&path, r#"["http://a:1"]"#).expect("written");
        let unwatched = WatchedFile::new(path.clone()).expect("a path").unwatched();
        let reader = Reader::new(unwatched, Endpoint::from_static("http://any"));
        let mut source = File {
            path: path.clone(),
            state: State::Made(Some(Box::new(reader))),
        };
        assert_eq!(next(&mut source).await, "+http://a:1/");

        let start = Instant::now();
        fs::write(&path, r#"["http://b:1"]"#).expect("written");
        assert_eq!(next(&mut source).await, "+http://b:1/");
        assert_eq!(next(&mut source).await, "-http://a:1/");
        assert_eq!(start.elapsed().as_secs(), 30);

        let hour = Duration::from_secs(3600);
        let quiet = timeout(hour, source.next()).await;
        assert!(quiet.is_err(), "the same file is no news");
        fs::remove_file(&path).expect("removed");
        let error = next(&mut source).await;
        assert!(error.contains("backends.json: "), "{error}");
        let quiet = timeout(hour, source.next()).await;
        assert!(quiet.is_err(), "nor is the same error");
    }
}
