//! A tracer that writes down what it is told.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{HeaderName, HeaderValue};
use testing::{Backend, balanced};
use tokio::sync::watch;
use tonic_health_channel::{
    Channel, ChannelBuilder,
    trace::{
        AttemptHeaders, AttemptInfo, AttemptTrace, CallInfo, CallTrace, CallTracer, MessageInfo,
        TraceStatus,
    },
};

/// All that was told, as lines. A call's begin with `call`, those of its attempts with their number.
#[derive(Clone)]
pub(super) struct Notebook {
    lines: Arc<watch::Sender<Vec<String>>>,
    settings: Settings,
    calls: Arc<AtomicUsize>,
}

#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) messages: bool,
    /// Headers that each attempt gets. `#` in a value is the attempt's number in the notebook.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// The method with this name panics.
    pub(super) panics: Option<&'static str>,
    /// No call is traced.
    pub(super) is_off: bool,
}

impl Notebook {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            lines: Arc::default(),
            settings,
            calls: Arc::default(),
        }
    }

    /// All lines until now.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// The same, and the book is empty.
    pub(super) fn take(&self) -> Vec<String> {
        self.lines.send_replace(Vec::new())
    }

    /// Awaits this line.
    pub(super) async fn until(&self, line: &str) {
        let mut lines = self.lines.subscribe();
        let written = lines.wait_for(|lines| lines.iter().any(|written| written == line));
        testing::within(line, written)
            .await
            .expect("the book is here");
    }

    fn write(&self, method: &str, line: String) {
        self.lines.send_modify(|lines| lines.push(line));
        assert_ne!(self.settings.panics, Some(method), "as it is to");
    }
}

/// A channel named `shop` over these backends without health checks, and what its tracer is told.
pub(super) fn noted(backends: &[&Backend], settings: Settings) -> (Channel, Notebook) {
    build(balanced(backends, None), settings)
}

pub(super) fn build(builder: ChannelBuilder, settings: Settings) -> (Channel, Notebook) {
    let notebook = Notebook::new(settings);
    let tracer = Arc::new(notebook.clone());
    (builder.name("shop").call_tracer(tracer).build(), notebook)
}

struct Call {
    notebook: Notebook,
    attempts: AtomicUsize,
}

struct Attempt {
    notebook: Notebook,
    number: usize,
    ended: Mutex<bool>,
}

impl CallTracer for Notebook {
    fn start(&self, call: &CallInfo<'_>) -> Option<Arc<dyn CallTrace>> {
        self.calls.fetch_add(1, SeqCst);
        if self.settings.is_off {
            return None;
        }
        let line = format!(
            "call {} of {} at {}",
            call.method(),
            call.target(),
            call.path()
        );
        self.write("start", line);
        Some(Arc::new(Call {
            notebook: self.clone(),
            attempts: AtomicUsize::new(0),
        }))
    }
}

impl Notebook {
    /// How many calls it was asked about.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

impl CallTrace for Call {
    fn resolution_delayed(&self) {
        self.notebook
            .write("resolution_delayed", "call was delayed".to_owned());
    }

    fn attempt(self: Arc<Self>, attempt: AttemptInfo) -> Arc<dyn AttemptTrace> {
        let number = self.attempts.fetch_add(1, SeqCst);
        let kind = match attempt.is_transparent_retry() {
            true => "again",
            false => "new",
        };
        let line = format!("{number} {kind} after {}", attempt.previous_attempts());
        self.notebook.write("attempt", line);
        Arc::new(Attempt {
            notebook: self.notebook.clone(),
            number,
            ended: Mutex::default(),
        })
    }

    fn ended(&self, status: &TraceStatus<'_>) {
        let (code, message) = (status.code_name(), status.message());
        self.notebook
            .write("call_ended", format!("call ended {code}: {message}"));
    }
}

impl Attempt {
    fn write(&self, method: &str, what: &str) {
        let line = format!("{} {what}", self.number);
        // A panic would be contained, so the test is told by the line.
        let line = match *self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            true => format!("{line}, after its end"),
            false => line,
        };
        self.notebook.write(method, line);
    }
}

impl AttemptTrace for Attempt {
    fn pick_delayed(&self) {
        self.write("pick_delayed", "waited");
    }

    fn sending(&self, backend: &str, headers: &mut AttemptHeaders<'_>) {
        self.write("sending", &format!("to {backend}"));
        for (name, value) in &self.notebook.settings.headers {
            let value = value.replace('#', &self.number.to_string());
            let value = HeaderValue::from_str(&value).expect("a value");
            if !headers.insert(HeaderName::from_static(name), value) {
                self.write("sending", &format!("may not set {name}"));
            }
        }
    }

    fn wants_messages(&self) -> bool {
        assert_ne!(
            self.notebook.settings.panics,
            Some("wants_messages"),
            "as it is to"
        );
        self.notebook.settings.messages
    }

    fn sent(&self, message: MessageInfo) {
        self.write("sent", &format!("sent {}", told(message)));
    }

    fn received(&self, message: MessageInfo) {
        self.write("received", &format!("received {}", told(message)));
    }

    fn ended(&self, status: &TraceStatus<'_>) {
        let (code, message) = (status.code_name(), status.message());
        self.write("ended", &format!("ended {code}: {message}"));
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

fn told(message: MessageInfo) -> String {
    let (number, size) = (message.number(), message.size());
    match message.is_compressed() {
        true => format!("{number}: {size} compressed"),
        false => format!("{number}: {size}"),
    }
}
