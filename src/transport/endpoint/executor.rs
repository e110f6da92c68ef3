//! Where the tasks of channels and connections run.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tracing::error;

use crate::util::contained::{Contained, contained};

/// The target of what is logged here; see the crate's documentation.
const CHANNEL: &str = "tonic_health_channel::channel";

/// A task as executors take it; the type that tonic's `Endpoint::executor` asks
/// for.
pub(crate) type BoxTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where tasks are spawned: a given executor, or the tokio runtime in context.
#[derive(Clone)]
pub(crate) struct Executor(Option<Arc<dyn hyper::rt::Executor<BoxTask> + Send + Sync>>);

/// One of the application's, which may panic when it is dropped.
struct Given<E>(Contained<E>);

impl<E: hyper::rt::Executor<BoxTask>> hyper::rt::Executor<BoxTask> for Given<E> {
    fn execute(&self, task: BoxTask) {
        self.0.execute(task);
    }
}

/// An executor, and the runtime that its tasks have in context. Spawns from anywhere.
#[derive(Clone)]
pub(crate) struct BoundExecutor {
    executor: Executor,
    runtime: Handle,
}

impl Executor {
    /// The tokio runtime in context.
    pub(crate) fn tokio() -> Self {
        Self(None)
    }

    /// One of the application's.
    pub(crate) fn given<E>(executor: E) -> Self
    where
        E: hyper::rt::Executor<BoxTask> + Send + Sync + 'static,
    {
        Self(Some(Arc::new(Given(Contained::new(executor)))))
    }

    /// Whether it is one of the application's.
    pub(crate) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Spawns what runs in `runtime`, unless a given executor has a runtime of its own.
    pub(crate) fn bind(&self, runtime: Handle) -> BoundExecutor {
        BoundExecutor {
            executor: self.clone(),
            runtime,
        }
    }

    /// Spawns `task` without a runtime at hand: a given executor has to have one.
    ///
    /// # Panics
    ///
    /// Without a given executor, if called outside a tokio runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some(executor) => executor.execute(ContainedTask::boxed(task, None)),
            None => drop(tokio::spawn(task)),
        }
    }
}

impl BoundExecutor {
    /// Never panics by itself: a runtime that has ended drops the task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.executor.0 {
            Some(executor) => {
                executor.execute(ContainedTask::boxed(task, Some(self.runtime.clone())));
            }
            None => drop(self.runtime.spawn(task)),
        }
    }

    /// The runtime that keeps the time for its tasks.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// A task whose panic ends it and no more, as on a tokio runtime: an executor that is given may
/// not contain panics.
struct ContainedTask {
    task: Contained<BoxTask>,
    /// In context where the executor has none.
    runtime: Option<Handle>,
}

impl ContainedTask {
    fn boxed(task: impl Future<Output = ()> + Send + 'static, runtime: Option<Handle>) -> BoxTask {
        Box::pin(Self {
            task: Contained::new(Box::pin(task)),
            runtime,
        })
    }
}

impl Future for ContainedTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let absent = this.runtime.as_ref();
        let absent = absent.filter(|_| Handle::try_current().is_err());
        let _context = absent.map(Handle::enter);
        contained(|| this.task.as_mut().poll(cx)).unwrap_or_else(|panic| {
            // A subscriber may panic, too.
            let _ = contained(|| error!(target: CHANNEL, panic, "a task of the channel panicked"));
            Poll::Ready(())
        })
    }
}

impl PartialEq for Executor {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
