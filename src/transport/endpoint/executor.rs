//! Where the tasks of connections run.

use std::{pin::Pin, sync::Arc};

/// A task as executors take it; the type that tonic's `Endpoint::executor` asks
/// for.
pub(crate) type BoxTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where tasks are spawned: a given executor, or the tokio runtime in context.
#[derive(Clone)]
pub(crate) struct Executor(Option<Arc<dyn hyper::rt::Executor<BoxTask> + Send + Sync>>);

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

impl PartialEq for Executor {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
