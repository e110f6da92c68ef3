//! The tree and its events as tables.

use std::time::Duration;

use super::tree::{Node, Told, Tree, address, security, severity, state, time};
use crate::{
    grid::{Cell, Grid, Tone, age},
    pb::channelz::{ChannelData, Socket},
    report::rfc3339,
};

/// A row for each channel, subchannel and socket, below the one it belongs to.
pub(super) fn tree(tree: &Tree, now: Duration) -> Grid {
    let mut grid = Grid::new(&[
        "ID", "NAME", "STATE", "CALLS", "OK", "FAILED", "OPEN", "LAST", "DETAILS",
    ]);
    for (depth, node) in tree.rows() {
        let reference = &node.reference;
        let id = format!("{:1$}{2} {3}", "", 2 * depth, reference.kind, reference.id);
        let mut row = vec![Cell::plain(id), Cell::plain(name(node))];
        match &node.told {
            Told::Channel(data) => row.extend(of_channel(data, &name(node), now)),
            Told::Socket(socket) => row.extend(of_socket(socket, now)),
            Told::Gone => row.push(Cell::plain("gone")),
            Told::Above => row.push(Cell::plain("above")),
        }
        grid.push(row);
    }
    grid
}

/// Its name, or else what it is about.
fn name(node: &Node) -> String {
    match &node.told {
        _ if !node.reference.name.is_empty() => node.reference.name.clone(),
        Told::Channel(data) => data.target.clone(),
        Told::Socket(socket) => match (
            address(socket.local.as_ref()),
            address(socket.remote.as_ref()),
        ) {
            (Some(local), Some(remote)) => format!("{local} -> {remote}"),
            (local, remote) => local.or(remote).unwrap_or_default(),
        },
        Told::Gone | Told::Above => String::new(),
    }
}

fn of_channel(data: &ChannelData, name: &str, now: Duration) -> Vec<Cell> {
    let state = state(data).unwrap_or("-");
    let tone = match state {
        "READY" => Tone::Good,
        "TRANSIENT_FAILURE" => Tone::Bad,
        "CONNECTING" => Tone::Waiting,
        _ => Tone::Plain,
    };
    let mut cells = vec![Cell::new(state, tone)];
    let last = time(data.last_call_started_timestamp.as_ref());
    cells.extend(counts(
        data.calls_started,
        data.calls_succeeded,
        data.calls_failed,
    ));
    cells.push(Cell::plain(ago(last, now)));
    let target = match data.target.as_str() {
        target if target.is_empty() || target == name => String::new(),
        target => format!("target {target}"),
    };
    cells.push(Cell::plain(target));
    cells
}

fn of_socket(socket: &Socket, now: Duration) -> Vec<Cell> {
    let data = socket.data.clone().unwrap_or_default();
    let security = security(socket);
    let mut cells = vec![Cell::plain("-")];
    let last = time(data.last_local_stream_created_timestamp.as_ref());
    cells.extend(counts(
        data.streams_started,
        data.streams_succeeded,
        data.streams_failed,
    ));
    cells.push(Cell::plain(ago(last, now)));
    let mut details = vec![format!(
        "messages {} out, {} in",
        data.messages_sent, data.messages_received
    )];
    if data.keep_alives_sent > 0 {
        details.push(format!("{} PINGs", data.keep_alives_sent));
    }
    details.push(security.unwrap_or_else(|| "plaintext".to_owned()));
    if !socket.remote_name.is_empty() {
        details.push(format!("peer {}", socket.remote_name));
    }
    cells.push(Cell::plain(details.join(", ")));
    cells
}

/// Begun, ended with OK, ended otherwise, and under way.
fn counts(started: i64, succeeded: i64, failed: i64) -> [Cell; 4] {
    let open = started
        .saturating_sub(succeeded)
        .saturating_sub(failed)
        .max(0);
    let tone = match failed {
        ..=0 => Tone::Plain,
        _ => Tone::Bad,
    };
    [
        Cell::plain(started.to_string()),
        Cell::plain(succeeded.to_string()),
        Cell::new(failed.to_string(), tone),
        Cell::plain(open.to_string()),
    ]
}

/// `5s ago`, or `never`.
fn ago(at: Option<Duration>, now: Duration) -> String {
    match at {
        None => "never".to_owned(),
        // The clock of the program may be ahead of this one.
        Some(at) => format!("{} ago", age(now.saturating_sub(at))),
    }
}

/// The last events of each channel and subchannel, `most` of each. None if there is none.
pub(super) fn events(tree: &Tree, most: usize) -> Option<Grid> {
    let mut grid = Grid::new(&["TIME", "OF", "SEVERITY", "EVENT"]);
    let mut is_empty = true;
    for (_, node) in tree.rows() {
        let Told::Channel(ChannelData {
            trace: Some(trace), ..
        }) = &node.told
        else {
            continue;
        };
        let reference = &node.reference;
        let skipped = trace.events.len().saturating_sub(most);
        for event in &trace.events[skipped..] {
            let at = time(event.timestamp.as_ref());
            let tone = match severity(event) {
                "ERROR" | "WARNING" => Tone::Bad,
                _ => Tone::Plain,
            };
            grid.push(vec![
                Cell::plain(at.map_or_else(|| "-".to_owned(), rfc3339)),
                Cell::plain(format!("{} {}", reference.kind, reference.id)),
                Cell::new(severity(event), tone),
                Cell::plain(&event.description),
            ]);
            is_empty = false;
        }
    }
    (!is_empty).then_some(grid)
}
