//! The backend that answered a call.

use std::{fmt, sync::Arc};

/// The backend that answered a call, in the extensions of the response.
///
/// Off unless the channel is built with [`ChannelBuilder::tell_backend`], for it
/// costs each call three allocations. A call that fails has no response, and its
/// [`tonic::Status`] does not carry this; the texts of this crate's own errors name
/// the backend.
///
/// ```
/// use tonic_health_channel::channel::AnsweredBy;
///
/// fn log<T>(response: &tonic::Response<T>) {
///     if let Some(backend) = response.extensions().get::<AnsweredBy>() {
///         println!("answered by {backend}");
///     }
/// }
/// # log(&tonic::Response::new(()));
/// ```
///
/// Cheap to clone: a count goes up.
///
/// [`ChannelBuilder::tell_backend`]: crate::ChannelBuilder::tell_backend
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AnsweredBy(Arc<Names>);

#[derive(PartialEq, Eq, Hash)]
struct Names {
    label: Arc<str>,
    address: Arc<str>,
}

impl AnsweredBy {
    pub(crate) fn new(label: Arc<str>, address: Arc<str>) -> Self {
        Self(Arc::new(Names { label, address }))
    }

    /// The name its source gave it; its address where the source gave none.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.0.address
    }
}

/// `10.0.0.1:50051`, or `api-1 (10.0.0.1:50051)` if its source gave a name.
impl fmt::Display for AnsweredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label() == self.address() {
            true => f.write_str(self.address()),
            false => write!(f, "{} ({})", self.label(), self.address()),
        }
    }
}

impl fmt::Debug for AnsweredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnsweredBy")
            .field("label", &self.label())
            .field("address", &self.address())
            .finish()
    }
}
