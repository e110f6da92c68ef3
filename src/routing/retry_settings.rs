//! The options of a channel for the attempts of its calls.

/// As the channel was built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetrySettings {
    /// How many attempts a call may have, whatever its policy says. With 1 no policy counts.
    pub(crate) max_attempts: u32,
    /// Responses tell of the attempts before.
    pub(crate) tells_attempts: bool,
    /// Bytes of its request that a call keeps for attempts to come.
    pub(crate) buffer_per_call: usize,
    /// Bytes that all calls keep.
    pub(crate) buffer: usize,
}

/// gRFC A6's limit of attempts, and the buffers of gRPC's implementations.
impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            tells_attempts: false,
            buffer_per_call: 256 << 10,
            buffer: 16 << 20,
        }
    }
}
