//! The traits that an application implements to trace calls.

use std::sync::Arc;

use super::{
    headers::AttemptHeaders,
    info::{AttemptInfo, CallInfo, MessageInfo, TraceStatus},
};

/// Traces the calls of a channel (gRFC A66).
///
/// All methods of the 3 traits are called in the middle of a call, so they must not block. A panic
/// of one is logged, and the call does not suffer. Nor does the rest of the trace, unless it was to
/// be made by that method.
pub trait CallTracer: Send + Sync + 'static {
    /// A call begins, in the task that makes it. `None` if nothing of it is traced; then it costs
    /// no more.
    fn start(&self, call: &CallInfo<'_>) -> Option<Arc<dyn CallTrace>>;
}

/// The trace of one call.
pub trait CallTrace: Send + Sync + 'static {
    /// The call has waited for the first service config. Once, before the first attempt.
    fn resolution_delayed(&self) {}

    /// An attempt begins, before a backend is picked for it. The first one, a retry, a hedge, or a
    /// transparent retry. Hedges are under way beside each other.
    fn attempt(self: Arc<Self>, attempt: AttemptInfo) -> Arc<dyn AttemptTrace>;

    /// The call is over. Once, after its attempts have ended. A response or a body that is dropped
    /// before its end is CANCELLED.
    fn ended(&self, status: &TraceStatus<'_>);
}

/// The trace of one attempt.
pub trait AttemptTrace: Send + Sync + 'static {
    /// The attempt has a backend, and had to wait for it. At most once.
    fn pick_delayed(&self) {}

    /// The headers of the attempt go out to `backend`, its address. They have what the call
    /// credentials add. A trace context is added here, anew for each attempt.
    fn sending(&self, backend: &str, headers: &mut AttemptHeaders<'_>) {
        let _ = (backend, headers);
    }

    /// Whether [`sent`](Self::sent) and [`received`](Self::received) are to be called. Asked when
    /// the attempt begins. False by default, as to tell messages apart has a cost.
    fn wants_messages(&self) -> bool {
        false
    }

    /// A message of the request goes out. If the request streams, this is not in the caller's task,
    /// and may be after [`ended`](Self::ended): a server can end the response while more comes.
    fn sent(&self, message: MessageInfo) {
        let _ = message;
    }

    /// A message of the response has begun to come, and is given to the caller.
    fn received(&self, message: MessageInfo) {
        let _ = message;
    }

    /// The attempt is over. Once.
    fn ended(&self, status: &TraceStatus<'_>);
}
