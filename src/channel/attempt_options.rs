//! Options for the attempts of calls: how many, how much is kept, what is told.

use std::num::NonZeroU32;

use super::builder::ChannelBuilder;

impl ChannelBuilder {
    /// How many attempts a call may have, the first one included, whatever its `retryPolicy` or
    /// `hedgingPolicy` says. 5 by default, as gRFC A6 says. With 1 the policies of the service
    /// config have no effect.
    ///
    /// A request that no backend has looked at is sent again all the same (gRFC A6, "Transparent
    /// Retries"). That is part of the same attempt.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use tonic_health_channel::{Channel, discover};
    ///
    /// # async fn example() -> Result<(), tonic_health_channel::Error> {
    /// let backends = discover::list(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
    /// let channel = Channel::balance(backends)
    ///     .max_call_attempts(NonZeroU32::MIN) // no retries, no hedges
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_call_attempts(mut self, max: NonZeroU32) -> Self {
        self.retries.max_attempts = max.get();
        self
    }

    /// Whether a response says in its extensions which attempts came before it, by
    /// [`CallAttempts`](crate::channel::CallAttempts), where its method has a policy. Not by
    /// default: it costs an allocation. A call that fails before it has response headers
    /// [has them](crate::Error::attempts) in any case.
    pub fn tell_attempts(mut self, tell: bool) -> Self {
        self.retries.tells_attempts = tell;
        self
    }

    /// How many bytes of its request a call keeps for attempts to come, if it has a policy.
    /// 256 KiB by default, as grpc-go and C-core keep.
    ///
    /// A request that outgrows it goes on with the attempt that has sent most of it, and no other
    /// attempt follows.
    pub fn retry_buffer_per_call(mut self, bytes: usize) -> Self {
        self.retries.buffer_per_call = bytes;
        self
    }

    /// How many bytes all calls of the channel keep together. 16 MiB by default, as grpc-java
    /// keeps. A call that would exceed it is treated as one that outgrows its own
    /// [buffer](Self::retry_buffer_per_call).
    pub fn retry_buffer(mut self, bytes: usize) -> Self {
        self.retries.buffer = bytes;
        self
    }
}
