//! What an application plugs into its channel, and how it panics where the script wants it.

use std::{
    io,
    panic::resume_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use futures_util::{Stream, future::BoxFuture, stream::unfold};
use hyper_util::rt::TokioIo;
use testing::{endpoint, keep_a_second_dispatcher, within};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::yield_now,
};
use tonic::{Status, metadata::MetadataMap};
use tonic_health_channel::{ChannelBuilder, Endpoint, Uri, channel::RequestInfo};
use tower::Service;
use tracing::{
    Dispatch, Event, Level, Subscriber,
    dispatcher::{self, DefaultGuard},
};
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::{self, SubscriberExt},
    registry,
};

use super::plan::Panics;

/// What code of the application says when it panics.
pub(super) const LAST_WORDS: &str = "the script wants it";

/// Without the panic hook, which would print it.
pub(super) fn panic_as_scripted() -> ! {
    resume_unwind(Box::new(LAST_WORDS))
}

/// A stream whose items, and whose panic, come from the script.
pub(super) struct Voice<T> {
    /// `None` is the panic.
    items: mpsc::UnboundedSender<Option<T>>,
    /// How many items the channel has asked for: one more than it has acted upon. Closed once
    /// the stream is gone.
    asked: watch::Receiver<usize>,
    said: usize,
    has_panicked: bool,
}

impl<T: Send + 'static> Voice<T> {
    pub(super) fn new() -> (Self, impl Stream<Item = T> + Send + 'static) {
        let (items, script) = mpsc::unbounded_channel();
        let (ask, asked) = watch::channel(0);
        let stream = unfold((script, ask), |(mut script, ask)| async move {
            ask.send_modify(|asked| *asked += 1);
            let item: Option<T> = script.recv().await?;
            let item = item.unwrap_or_else(|| panic_as_scripted());
            Some((item, (script, ask)))
        });
        let voice = Self {
            items,
            asked,
            said: 0,
            has_panicked: false,
        };
        (voice, stream)
    }

    pub(super) fn say(&mut self, item: T) {
        self.said += 1;
        let sent = self.items.send(Some(item));
        assert!(sent.is_ok(), "the channel no longer listens");
    }

    pub(super) fn panic(&mut self) {
        self.has_panicked = true;
        let sent = self.items.send(None);
        assert!(sent.is_ok(), "the channel no longer listens");
    }

    /// Waits until the channel has acted upon all that was said, and has dropped a stream that
    /// has panicked.
    pub(super) async fn until_heard(&mut self) {
        let (said, has_panicked) = (self.said, self.has_panicked);
        let heard = self.asked.wait_for(|asked| !has_panicked && *asked > said);
        let heard = within("the channel to act upon what its source says", heard).await;
        assert_eq!(heard.is_err(), has_panicked, "the channel lives");
    }
}

/// The hooks of one run, and what they have done.
#[derive(Clone)]
pub(super) struct Hooks(Arc<Shared>);

struct Shared {
    panics: Panics,
    rng: Mutex<fastrand::Rng>,
    /// None panics any more.
    are_well: AtomicBool,
    /// How many attempts to connect have panicked.
    dials: AtomicUsize,
    /// How many calls have lost their credentials to a panic.
    calls: AtomicUsize,
}

impl Hooks {
    pub(super) fn new(seed: u64, panics: Panics) -> Self {
        Self(Arc::new(Shared {
            panics,
            rng: Mutex::new(fastrand::Rng::with_seed(!seed)),
            are_well: AtomicBool::new(false),
            dials: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        }))
    }

    /// None panics from now on.
    pub(super) fn be_well(&self) {
        self.0.are_well.store(true, SeqCst);
    }

    pub(super) fn dials(&self) -> usize {
        self.0.dials.load(SeqCst)
    }

    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    pub(super) fn endpoint(&self, uri: String) -> Endpoint {
        let endpoint = endpoint(uri);
        match self.0.panics.connector {
            true => endpoint.connector(Connector(self.clone())),
            false => endpoint,
        }
    }

    pub(super) fn credentials(&self, builder: ChannelBuilder) -> ChannelBuilder {
        if !self.0.panics.credentials {
            return builder;
        }
        let hooks = self.clone();
        builder
            .allow_plaintext_credentials(true)
            .call_credentials(move |info| hooks.clone().authorize(info))
    }

    /// Panics at once, at the first poll or after it, or not at all.
    fn authorize(
        self,
        info: RequestInfo,
    ) -> impl Future<Output = Result<MetadataMap, Status>> + Send + 'static {
        let is_call = info.path().starts_with("/demo.v1.Greeter/");
        let when = self.draw(24);
        let panic = move || -> ! {
            // What a `Watch` loses is not a call.
            self.0.calls.fetch_add(usize::from(is_call), SeqCst);
            panic_as_scripted()
        };
        if when == Some(0) {
            panic();
        }
        async move {
            match when {
                Some(1) => panic(),
                Some(2) => {
                    yield_now().await;
                    panic()
                }
                _ => Ok(MetadataMap::new()),
            }
        }
    }

    /// A number below this one; none once the hooks are well.
    fn draw(&self, below: u32) -> Option<u32> {
        let mut rng = self.0.rng.lock().expect("no holder panics");
        let number = rng.u32(..below);
        (!self.0.are_well.load(SeqCst)).then_some(number)
    }
}

/// A connector that panics at each of its steps now and then, before the server sees anything.
struct Connector(Hooks);

impl Connector {
    fn take_a_step(&self) {
        if self.0.draw(10) == Some(0) {
            self.0.0.dials.fetch_add(1, SeqCst);
            panic_as_scripted();
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_a_step();
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.take_a_step();
        let connector = Self(self.0.clone());
        Box::pin(async move {
            connector.take_a_step();
            let authority = uri.authority().expect("an endpoint has one");
            TcpStream::connect(authority.as_str())
                .await
                .map(TokioIo::new)
        })
    }
}

/// What the channel logs when one of its own tasks dies.
#[derive(Clone)]
pub(super) struct Deaths(Dispatch, Arc<Mutex<Vec<String>>>);

impl Deaths {
    pub(super) fn watch() -> Self {
        keep_a_second_dispatcher();
        let lines = Arc::default();
        let layer = Recorder(Arc::clone(&lines)).with_filter(LevelFilter::ERROR);
        Self(Dispatch::new(registry().with(layer)), lines)
    }

    /// Hears what this thread logs.
    #[must_use]
    pub(super) fn hear_this_thread(&self) -> DefaultGuard {
        dispatcher::set_default(&self.0)
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.1.lock().expect("no holder panics").clone()
    }
}

struct Recorder(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let target = event.metadata().target();
        // Other targets name what the application's code or a server has done.
        let of_a_task = [
            "tonic_health_channel::backend",
            "tonic_health_channel::channel",
        ];
        if *event.metadata().level() == Level::ERROR && of_a_task.contains(&target) {
            let mut lines = self.0.lock().expect("no holder panics");
            lines.push(format!("{event:?}"));
        }
    }
}

#[tokio::test]
async fn the_death_of_a_task_is_heard() {
    use testing::{Backend, until};
    use tonic_health_channel::{Channel, ConnectivityState};

    /// An executor that drops the first of its tasks.
    struct LosesOne(AtomicBool);

    impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for LosesOne {
        fn execute(&self, task: F) {
            if self.0.swap(true, SeqCst) {
                drop(tokio::spawn(task));
            }
        }
    }

    let deaths = Deaths::watch();
    let _hears = deaths.hear_this_thread();
    let backend = Backend::start().await;
    let dies = endpoint(backend.uri()).executor(LosesOne(AtomicBool::new(false)));
    for (endpoint, expected) in [(endpoint(backend.uri()), 0), (dies, 1)] {
        let channel = Channel::balance_list([endpoint].into_iter());
        until(&channel, ConnectivityState::Ready).await;
        let all = deaths.all();
        assert_eq!(all.len(), expected, "{all:?}");
        let is_told = |line: &String| line.contains("the task of a backend ended unexpectedly");
        assert!(all.iter().all(is_told), "{all:?}");
    }
}
