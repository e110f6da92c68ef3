//! Asking a source for its backends anew.

use std::sync::Arc;

use tokio::sync::Notify;

/// Asks a source to look for its backends again: a channel that is given one
/// ([`ChannelBuilder::on_reresolution_needed`]) asks whenever a backend leaves READY
/// or once more cannot be used, and an application may ask too.
///
/// Requests that come while one is pending are one request. How often it looks is
/// for the source to decide: a backend that is down asks with every attempt.
///
/// ```
/// use tonic_health_channel::discover::RefreshHandle;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let refresh = RefreshHandle::new();
/// let of_source = refresh.clone();
/// refresh.request();
/// of_source.requested().await; // and now the source looks again
/// # });
/// ```
///
/// [`ChannelBuilder::on_reresolution_needed`]: crate::ChannelBuilder::on_reresolution_needed
#[derive(Clone, Debug, Default)]
pub struct RefreshHandle(Arc<Notify>);

impl RefreshHandle {
    /// A handle that nobody has rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks.
    pub fn request(&self) {
        self.0.notify_one();
    }

    /// For the source: resolves when somebody has asked since this last resolved.
    ///
    /// # Cancel safety
    ///
    /// No request is lost.
    pub async fn requested(&self) {
        self.0.notified().await;
    }
}
