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
//!
//! It is the folder that is watched, because few who change a file write into it:
//! editors put another one in its place, and Kubernetes replaces a link on the way
//! to it. So are the folders of all links on that way ([`Way`]).

use std::{
    collections::{HashSet, VecDeque},
    fmt, fs, mem,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use serde::de::{Deserialize, Deserializer, Visitor};
use tokio::{select, sync::Notify, time};
use tower::discover::Change;
use tracing::{field, warn};

use super::links::Way;
use crate::{
    error::{Error, ErrorKind},
    transport::Endpoint,
    util::{blocking, contained::contained, lock::lock},
};

/// The target of what is logged here; see the crate's documentation.
const DISCOVER: &str = "tonic_health_channel::discover";

/// How often the file is read where nothing tells of changes: network file systems,
/// or a system that has no watch to spare.
const READ_EVERY: Duration = Duration::from_secs(30);

/// Between the first sign of a change and the look at it: most writers are done
/// by then, and a folder in which much happens costs ten reads a second.
const SETTLE: Duration = Duration::from_millis(100);

/// How often the way to the file may change while a watch is placed. The next sign of a
/// change places it again.
const MAX_SWAPS: usize = 8;

/// How some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The backends that a file names. Made by [`file()`].
pub struct File {
    options: Options,
    /// Once it has been polled.
    changes: Option<Pin<Box<dyn Stream<Item = Item> + Send>>>,
}

type Item = Result<Change<String, Endpoint>, Error>;

#[derive(Clone)]
struct Options {
    path: PathBuf,
    template: Endpoint,
    /// False only where a test is to see what happens without.
    watched: bool,
}

/// The backends whose URIs are in the file at `path`, as they are there from time to
/// time: a JSON list of strings. A backend is known by its URI.
///
/// ```json
/// ["http://10.0.0.1:50051", "http://10.0.0.2:50051"]
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
/// backend.
///
/// Nothing is read or watched before the first poll, and never in a task of the
/// runtime.
///
/// # Errors
///
/// [`ErrorKind::InvalidOption`] if `path` does not end in the name of a file.
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
    if path.file_name().is_none() {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            format!("the path `{}` names no file", path.display()),
        ));
    }
    Ok(File {
        options: Options {
            path,
            template: Endpoint::from_static("http://any"),
            watched: true,
        },
        changes: None,
    })
}

impl File {
    /// Reaches every backend as `template` says, each at its own URI. To be called
    /// before the first poll; the options of an [`Endpoint`] are their defaults
    /// otherwise. A template with a user or a password reaches none.
    pub fn template(mut self, template: Endpoint) -> Self {
        self.options.template = template;
        self
    }
}

impl Stream for File {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Self { options, changes } = &mut *self;
        let changes = changes.get_or_insert_with(|| {
            Box::pin(stream::unfold(
                Reader::new(options.clone()),
                async |mut reader| Some((reader.next().await, reader)),
            ))
        });
        changes.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.options.path)
            .finish_non_exhaustive()
    }
}

/// What was read: the file, or why it could not be.
type Content = Result<Vec<u8>, String>;

struct Reader {
    options: Options,
    watch: Watch,
    last: Option<Content>,
    /// There was no thread to read it.
    unread: bool,
    /// By the last list there was.
    named: HashSet<String>,
    ahead: VecDeque<Item>,
}

impl Reader {
    fn new(options: Options) -> Self {
        Self {
            watch: Watch::new(&options),
            options,
            last: None,
            unread: false,
            named: HashSet::new(),
            ahead: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ahead.pop_front() {
                return item;
            }
            if self.last.is_some() && !self.unread {
                self.watch.changed().await;
            }
            let content = match self.read().await {
                Ok(content) => content,
                // The channel asks again, after a pause that grows.
                Err(why) => return Err(self.error(&why)),
            };
            if self.last.as_ref() != Some(&content) {
                self.take(&content);
                self.last = Some(content);
            }
        }
    }

    /// Reads the file. A watch that is due is placed before, so that no change is
    /// missed.
    ///
    /// # Errors
    ///
    /// Why there was no thread for that.
    async fn read(&mut self) -> Result<Content, String> {
        let path = self.options.path.clone();
        let place = self.watch.place();
        let read = blocking::run(move || (place.map(|place| place()), content_of(&path)));
        let read = read.await;
        self.unread = read.is_err();
        // A watch that was to be placed went with the thread.
        self.watch.due |= self.unread;
        let (placed, content) = read?;
        if let Some((placed, outcome)) = placed {
            self.watch.on_placed(placed, outcome);
        }
        Ok(content)
    }

    fn error(&self, why: &str) -> Error {
        let why = format!("{}: {why}", self.options.path.display());
        Error::new(ErrorKind::InvalidEndpoint, why)
    }

    fn take(&mut self, content: &Content) {
        let listed = content.as_ref().map_err(Clone::clone);
        let endpoints = match listed.and_then(|json| parse(json)) {
            Ok(endpoints) => endpoints,
            Err(why) => {
                self.ahead.push_back(Err(self.error(&why)));
                return;
            }
        };
        let names: HashSet<String> = endpoints.iter().map(Endpoint::name).collect();
        // First what is new, so that the set is not empty in between. What is not
        // new is named too: it costs nothing, and ends an error that was told.
        let template = &self.options.template;
        let insert =
            |there: &Endpoint| Change::Insert(there.name(), template.with_target_of(there));
        let inserts = endpoints.iter().map(insert);
        let gone = self.named.difference(&names).cloned();
        self.ahead
            .extend(inserts.chain(gone.map(Change::Remove)).map(Ok));
        self.named = names;
    }
}

/// The file, unless a read of it could wait for ever, or go on for ever.
fn content_of(path: &Path) -> Content {
    let kind = fs::metadata(path).map_err(|error| error.to_string())?;
    match kind.is_file() {
        true => fs::read(path).map_err(|error| error.to_string()),
        false => Err(format!(
            "not a regular file, but {}",
            kind_of(kind.file_type())
        )),
    }
}

#[cfg(unix)]
fn kind_of(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn kind_of(kind: fs::FileType) -> &'static str {
    match kind.is_dir() {
        true => "a folder",
        false => "a device",
    }
}

/// What `json` names, each of which can be dialled, or what is wrong and in which
/// line.
fn parse(json: &[u8]) -> Result<Vec<Endpoint>, String> {
    let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    match json.trim_ascii_start().first() {
        Some(b'[') => {}
        Some(_) => return Err(r#"not a list like ["http://10.0.0.1:50051"]"#.to_owned()),
        None => return Err("the file is empty; no backends are written []".to_owned()),
    }
    let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(entries
        .into_iter()
        .map(|Entry(endpoint)| endpoint)
        .collect())
}

/// One entry of the list; its errors say where it stands.
struct Entry(Endpoint);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(EntryVisitor).map(Self)
    }
}

struct EntryVisitor;

impl Visitor<'_> for EntryVisitor {
    type Value = Endpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a URI like "http://10.0.0.1:50051""#)
    }

    fn visit_str<E: serde::de::Error>(self, uri: &str) -> Result<Endpoint, E> {
        Endpoint::from_shared(uri.to_owned()).map_err(|error| E::custom(error.message()))
    }
}

/// Wakes the source when something happens on the way to a file, or has not for a while.
struct Watch {
    /// None where it is not watched at all.
    path: Option<PathBuf>,
    changed: Arc<Notify>,
    placed: Placed,
    /// To be placed, for the first time or again: nothing tells of a folder that has
    /// been replaced.
    due: bool,
    /// Why the folder is not watched.
    failure: Option<String>,
}

/// What is watched.
#[derive(Default)]
struct Placed {
    watcher: Option<RecommendedWatcher>,
    way: Arc<Mutex<Way>>,
    folders: Vec<PathBuf>,
}

impl Watch {
    fn new(options: &Options) -> Self {
        Self {
            path: options.watched.then(|| options.path.clone()),
            changed: Arc::new(Notify::new()),
            placed: Placed::default(),
            due: true,
            failure: None,
        }
    }

    async fn changed(&mut self) {
        select! {
            () = self.changed.notified() => time::sleep(SETTLE).await,
            () = time::sleep(READ_EVERY) => {}
        }
        self.due = true;
    }

    /// What there is to do to have a watch, if anything. It may block.
    fn place(&mut self) -> Option<impl FnOnce() -> (Placed, notify::Result<()>) + Send + use<>> {
        let due = mem::take(&mut self.due);
        let path = self.path.clone().filter(|_| due)?;
        let (mut placed, changed) = (mem::take(&mut self.placed), self.changed.clone());
        Some(move || {
            let outcome = placed.place(&path, changed);
            (placed, outcome)
        })
    }

    fn on_placed(&mut self, placed: Placed, outcome: notify::Result<()>) {
        self.placed = placed;
        let failure = outcome.err().map(|error| error.to_string());
        if failure != self.failure
            && let Some(error) = &failure
        {
            let folder = self.placed.folders.first().map(|folder| folder.display());
            let every = READ_EVERY;
            warn!(target: DISCOVER, folder = folder.map(field::display), error, ?every, "cannot watch");
        }
        self.failure = failure;
    }
}

impl Placed {
    /// # Errors
    ///
    /// Why the folder of the file is not watched.
    fn place(&mut self, path: &Path, changed: Arc<Notify>) -> notify::Result<()> {
        let mut watcher = match self.watcher.take() {
            Some(watcher) => watcher,
            None => {
                let way = self.way.clone();
                notify::recommended_watcher(move |event| {
                    if is_change(event, &way) {
                        changed.notify_one();
                    }
                })?
            }
        };
        // It panics where the system had no thread for it, and once more when dropped.
        match contained(|| self.follow(path, &mut watcher)) {
            Ok(outcome) => {
                self.watcher = Some(watcher);
                outcome
            }
            Err(text) => {
                let _ = contained(|| drop(watcher));
                Err(notify::Error::generic(&format!("no watch: {text}")))
            }
        }
    }

    /// Watches each folder on the way to `path`, until none of its links has been replaced
    /// meanwhile.
    fn follow(&mut self, path: &Path, watcher: &mut RecommendedWatcher) -> notify::Result<()> {
        let mut way = Way::to(path)?;
        for _ in 0..MAX_SWAPS {
            let folders = way.folders();
            *lock(&self.way) = way.clone();
            for old in self.folders.iter().filter(|old| !folders.contains(old)) {
                // It is not there any more, for the most part.
                let _ = watcher.unwatch(old);
            }
            let watch = |folder: &PathBuf| watcher.watch(folder, RecursiveMode::NonRecursive);
            let outcomes: Vec<_> = folders.iter().map(watch).collect();
            self.folders = folders;
            let now = Way::to(path)?;
            if now == way {
                // The others may be closed to us, or not be there.
                return outcomes.into_iter().next().unwrap_or(Ok(()));
            }
            way = now;
        }
        Ok(())
    }
}

/// To read the file is not a change of it. Events that were lost may have been one.
fn is_change(event: notify::Result<Event>, way: &Mutex<Way>) -> bool {
    let Ok(event) = event else {
        return true;
    };
    let way = lock(way);
    let is_near = event.paths.iter().any(|path| way.is_touched_by(path));
    !event.kind.is_access() && (is_near || event.need_rescan() || event.paths.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use futures_util::StreamExt;
    use tempfile::TempDir;
    use tokio::time::{Instant, timeout};

    use super::{Change, File, file, parse};

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
        let marked = format!("\u{feff}{two}");
        assert_eq!(parse(marked.as_bytes()).map(|list| list.len()), Ok(2));

        let empty = "the file is empty; no backends are written []";
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
            "invalid type: integer `5`, expected a URI like \"http://10.0.0.1:50051\" \
             at line 1 column 2",
        );
        refused("\u{feff}", empty);
        let no_list = r#"not a list like ["http://10.0.0.1:50051"]"#;
        refused("{\"backends\": []}", no_list);
        refused("http://a:1", no_list);
        refused("[] []", "trailing characters at line 1 column 4");
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
        let mut source = file(&path).expect("a path");
        source.options.watched = false;
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
