//! Why a response ends before its peer has ended it.

use tonic::Status;

/// Its deadline is over.
pub(in crate::transport) fn expired(address: &str) -> Status {
    Status::deadline_exceeded(format!(
        "deadline exceeded while the response of {address} was received"
    ))
}

/// Its connection has more than `most` that is not read, and this response the largest part.
pub(in crate::transport) fn hoards(address: &str, bytes: usize, most: usize) -> Status {
    Status::resource_exhausted(format!(
        "the response of {address} was cancelled: {bytes} of its bytes were unread; a connection \
         allows {most} bytes, 2 times its initial_connection_window_size"
    ))
}
