//! What `h2` may hold and tolerate. Its own guards are made for servers that
//! face anyone; two of them end a whole connection over traffic that is legal
//! for a client, so every limit is set here, with its reason.

use std::time::Duration;

use crate::transport::endpoint::Http2Options;

/// Bytes one response may send ahead of its reader; hyper's default.
const STREAM_WINDOW: u32 = 2 << 20;
/// Bytes of all responses that may wait to be read before the windows of streams become small.
/// It takes 32 full windows of streams, and twice as much before a call is lost.
const UNREAD_CAP: u32 = 64 << 20;
/// Bytes all responses may send ahead of their readers: more than ever waits. A window that
/// could be full would stall calls that are read beside those that are not.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// What small DATA frames may cost before the connection counts as attacked:
/// no bound. At the default of half a connection window, a reader who takes
/// his time over a stream of 20-byte messages loses the connection. Nor is any
/// other bound safe: frames that come for a cancelled stream are charged and
/// never credited, so a connection that lives long enough comes to it. What is
/// unread has a cap of its own, in which each frame counts.
const DATA_BUDGET: usize = usize::MAX;
/// Streams we reset and still remember. Each cancelled call is one until the
/// peer has noticed; at the default of fifty, 1,500 calls cancelled together
/// end the connection for everybody else.
const RESET_STREAMS: usize = 10_000;
/// How long a reset stream is remembered, so that frames which the peer sent
/// before it knew are not taken for an error.
const RESET_REMEMBERED: Duration = Duration::from_secs(10);
/// Streams that an error of the peer's has ended, over the life of a connection.
/// It can name as many streams as it likes that we never opened, each of which
/// is half a kilobyte for as long as it does not read that they are reset. The
/// default of a thousand is too few: what comes late for a cancelled stream that
/// is no longer remembered is such an error too.
const ERRORS: usize = 50_000;
/// The least cap: what HTTP/2 gives a connection that says nothing (RFC 9113 §6.9.2).
const LEAST_UNREAD_CAP: u32 = (1 << 16) - 1;
/// No window may be larger (RFC 9113 §6.9.1). `h2` panics beyond it.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// What [`Endpoint::http2_adaptive_window`] asks for: how far hyper's windows
/// grow.
const ADAPTIVE_WINDOW: u32 = 16 << 20;
/// What HTTP/2 knows of frame sizes (RFC 9113 §4.2). `h2` panics beyond.
const LEAST_FRAME: u32 = 1 << 14;
const LARGEST_FRAME: u32 = (1 << 24) - 1;
/// Bytes of one request body that may wait inside `h2`, besides its last chunk.
const SEND_BUFFER: usize = 1 << 20;
/// Never a limit that a peer would send: while it stands, no SETTINGS came.
const NO_SETTINGS_YET: usize = usize::MAX - 1;

/// The settings of one connection: its endpoint's, and the limits where that says nothing.
pub(super) fn builder(options: &Http2Options) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_max_send_streams(NO_SETTINGS_YET)
        .initial_window_size(stream_window(options))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(DATA_BUDGET)
        .max_concurrent_reset_streams(
            options
                .max_concurrent_reset_streams
                .unwrap_or(RESET_STREAMS),
        )
        .reset_stream_duration(options.reset_stream_duration.unwrap_or(RESET_REMEMBERED))
        .max_local_error_reset_streams(
            options
                .max_local_error_reset_streams
                .unwrap_or(Some(ERRORS)),
        )
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(options.header_list())
        .enable_push(false);
    if options.max_frame_size.is_some() {
        builder.max_frame_size(max_frame_size(options));
    }
    if let Some(size) = options.header_table_size {
        builder.header_table_size(size);
    }
    builder
}

/// The size of the peer's largest frame.
pub(super) fn max_frame_size(options: &Http2Options) -> u32 {
    let size = options.max_frame_size.unwrap_or(LEAST_FRAME);
    size.clamp(LEAST_FRAME, LARGEST_FRAME)
}

/// Bytes that a response may send ahead of its reader.
pub(super) fn stream_window(options: &Http2Options) -> u32 {
    let window = match options.adaptive_window {
        true => ADAPTIVE_WINDOW,
        false => options.stream_window.unwrap_or(STREAM_WINDOW),
    };
    window.min(LARGEST_WINDOW).min(unread_cap(options))
}

/// Bytes of all responses that may wait to be read before something is done about it.
pub(super) fn unread_cap(options: &Http2Options) -> u32 {
    let cap = match options.adaptive_window {
        true => UNREAD_CAP,
        false => options.connection_window.unwrap_or(UNREAD_CAP),
    };
    cap.max(LEAST_UNREAD_CAP)
}

/// Whether the peer's SETTINGS have come, by the limit that `h2` knows.
pub(super) fn has_settings(max_send_streams: usize) -> bool {
    max_send_streams != NO_SETTINGS_YET
}
