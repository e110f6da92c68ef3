//! Why a connection has ended, in the words of gRFC A94.

use std::io;

use h2::Reason;

use crate::error::{Cause, CauseKind};

/// The end of a connection that is let go (gRFC A94).
pub(in crate::transport) const SHUTDOWN: &str = "subchannel shutdown";

/// A peer did not do something in time.
pub(in crate::transport) fn timed_out(why: String) -> Cause {
    Cause::new(CauseKind::Disconnected, why).with_disconnect_error("connection timed out")
}

/// The label `grpc.disconnect_error`. An end without a GOAWAY and an error of the socket is
/// `unknown`, as in grpc-go.
pub(super) fn disconnect_error(error: &h2::Error) -> &'static str {
    match error.get_io() {
        Some(io) => match io.kind() {
            io::ErrorKind::ConnectionReset => "connection reset",
            io::ErrorKind::TimedOut => "connection timed out",
            io::ErrorKind::ConnectionAborted => "connection aborted",
            // `h2` keeps the text of an error, and not its number.
            _ if io.to_string().contains("(os error ") => "socket error",
            _ => "unknown",
        },
        None if error.is_go_away() && error.is_remote() => {
            error.reason().map_or("unknown", of_go_away)
        }
        None => "unknown",
    }
}

/// The codes of RFC 9113. A peer could make a series of each other number.
fn of_go_away(reason: Reason) -> &'static str {
    match reason {
        Reason::NO_ERROR => "GOAWAY NO_ERROR",
        Reason::PROTOCOL_ERROR => "GOAWAY PROTOCOL_ERROR",
        Reason::INTERNAL_ERROR => "GOAWAY INTERNAL_ERROR",
        Reason::FLOW_CONTROL_ERROR => "GOAWAY FLOW_CONTROL_ERROR",
        Reason::SETTINGS_TIMEOUT => "GOAWAY SETTINGS_TIMEOUT",
        Reason::STREAM_CLOSED => "GOAWAY STREAM_CLOSED",
        Reason::FRAME_SIZE_ERROR => "GOAWAY FRAME_SIZE_ERROR",
        Reason::REFUSED_STREAM => "GOAWAY REFUSED_STREAM",
        Reason::CANCEL => "GOAWAY CANCEL",
        Reason::COMPRESSION_ERROR => "GOAWAY COMPRESSION_ERROR",
        Reason::CONNECT_ERROR => "GOAWAY CONNECT_ERROR",
        Reason::ENHANCE_YOUR_CALM => "GOAWAY ENHANCE_YOUR_CALM",
        Reason::INADEQUATE_SECURITY => "GOAWAY INADEQUATE_SECURITY",
        Reason::HTTP_1_1_REQUIRED => "GOAWAY HTTP_1_1_REQUIRED",
        _ => "GOAWAY UNKNOWN",
    }
}
