//! A file whose content matters as it changes.
//!
//! It is the folder that is watched, because few who change a file write into it:
//! editors put another one in its place, and Kubernetes replaces a link on the way
//! to it. So are the folders of all links on that way ([`Way`]).

use std::{
    fs, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{select, sync::Notify, time};
use tracing::{field, warn};

use super::links::Way;
use crate::{
    error::{Error, ErrorKind},
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

/// Until a read that had no thread is tried again.
const THREAD_PAUSE: Duration = Duration::from_secs(1);

/// How often the way to the file may change while a watch is placed. The next sign of a
/// change places it again.
const MAX_SWAPS: usize = 8;

/// How some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What was read: the file, or why it could not be.
pub(crate) type Content = Result<Vec<u8>, String>;

/// A regular file, read whenever it may have changed.
pub(crate) struct WatchedFile {
    path: PathBuf,
    watch: Watch,
    last: Option<Content>,
    /// There was no thread to read it.
    unread: bool,
}

impl WatchedFile {
    /// Nothing is read or watched before the first [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if `path` does not end in the name of a file.
    pub(crate) fn new(path: PathBuf) -> Result<Self, Error> {
        if path.file_name().is_none() {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                format!("the path `{}` names no file", path.display()),
            ));
        }
        Ok(Self {
            watch: Watch::new(path.clone()),
            path,
            last: None,
            unread: false,
        })
    }

    /// The content, without a byte order mark of UTF-8: at first, and once it is another. Why
    /// it cannot be read is content too.
    ///
    /// # Errors
    ///
    /// There was no thread to read it. The next call reads it again, after a second.
    pub(crate) async fn next(&mut self) -> Result<&Content, String> {
        loop {
            match (self.unread, &self.last) {
                (true, _) => time::sleep(THREAD_PAUSE).await,
                (false, Some(_)) => self.watch.changed().await,
                (false, None) => {}
            }
            let content = self.read().await?;
            if self.last.as_ref() != Some(&content) {
                return Ok(self.last.insert(content));
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
        let path = self.path.clone();
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
        Ok(
            content.map(|bytes| match bytes.strip_prefix(BYTE_ORDER_MARK) {
                Some(rest) => rest.to_vec(),
                None => bytes,
            }),
        )
    }

    /// What went wrong with the file, and which file.
    pub(crate) fn error(&self, why: &str) -> Error {
        let why = format!("{}: {why}", self.path.display());
        Error::new(ErrorKind::InvalidEndpoint, why)
    }

    /// Nothing tells of its changes.
    #[cfg(test)]
    pub(super) fn unwatched(mut self) -> Self {
        self.watch.path = None;
        self
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
    fn new(path: PathBuf) -> Self {
        Self {
            path: Some(path),
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
            warn!(
                target: DISCOVER,
                folder = folder.map(field::display),
                error,
                ?every,
                "cannot watch the folder of the file; it is read at intervals"
            );
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
                Err(notify::Error::generic(&format!(
                    "the watcher of the file panicked: {text}"
                )))
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
