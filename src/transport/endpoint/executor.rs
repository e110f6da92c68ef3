//! Where the tasks of channels and connections run.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A task as executors take it; the type that tonic's `Endpoint::executor` asks
/// for.
pub(crate) type BoxTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where tasks are spawned: a given executor, or the tokio runtime in context.
#[derive(Clone)]
pub(crate) struct Executor(Option<Arc<dyn hyper::rt::Executor<BoxTask> + Send + Sync>>);

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
        Self(Some(Arc::new(executor)))
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
            Some(executor) => executor.execute(Box::pin(task)),
            None => drop(tokio::spawn(task)),
        }
    }
}

impl BoundExecutor {
    /// Never panics by itself: a runtime that has ended drops the task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = &self.runtime;
        match &self.executor.0 {
            Some(executor) => executor.execute(Box::pin(InRuntime {
                runtime: runtime.clone(),
                task: Box::pin(task),
            })),
            None => drop(runtime.spawn(task)),
        }
    }

    /// The runtime that keeps the time for its tasks.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// A task that has `runtime` in context where its executor has none.
struct InRuntime {
    runtime: Handle,
    task: BoxTask,
}

impl Future for InRuntime {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let has_none = Handle::try_current().is_err();
        let _context = has_none.then(|| this.runtime.enter());
        this.task.as_mut().poll(cx)
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
