//! A JSON object for each channel, subchannel and socket.

use serde_json::{Map, Value, json};

use super::tree::{Node, Told, Tree, address, security, severity, state, time};
use crate::{
    pb::channelz::{ChannelData, ChannelTraceEvent, Socket, channel_trace_event::ChildRef},
    report::rfc3339,
    text,
};

/// Where a program is, as each of its objects says.
pub(super) struct Origin<'a> {
    pub(super) time: String,
    pub(super) target: &'a str,
    pub(super) backend: &'a str,
    pub(super) address: &'a str,
}

/// The objects, parents first.
pub(super) fn lines<'a>(
    tree: &'a Tree,
    origin: &'a Origin<'_>,
) -> impl Iterator<Item = String> + 'a {
    tree.rows().into_iter().map(|(_, node)| {
        let mut object = begun(origin);
        let parent = node.parent.map(|parent| &tree.nodes[parent].reference);
        let parent = parent.map(|parent| json!({"kind": parent.kind.to_string(), "id": parent.id}));
        object.insert("kind".to_owned(), node.reference.kind.to_string().into());
        object.insert("id".to_owned(), node.reference.id.into());
        object.insert("name".to_owned(), node.reference.name.clone().into());
        object.insert("parent".to_owned(), parent.unwrap_or(Value::Null));
        add(&mut object, node);
        text::json(&Value::Object(object))
    })
}

/// Why a program has not told.
pub(super) fn failure(origin: &Origin<'_>, error: &str, code: u8) -> String {
    let mut object = begun(origin);
    object.insert("error".to_owned(), error.into());
    object.insert("code".to_owned(), code.into());
    text::json(&Value::Object(object))
}

fn begun(origin: &Origin<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("time".to_owned(), origin.time.clone().into());
    for (key, value) in [
        ("target", origin.target),
        ("backend", origin.backend),
        ("address", origin.address),
    ] {
        object.insert(key.to_owned(), value.into());
    }
    object
}

fn add(object: &mut Map<String, Value>, node: &Node) {
    let told = match &node.told {
        Told::Channel(data) => of_channel(data),
        Told::Socket(socket) => of_socket(socket),
        Told::Gone => json!({"is_gone": true}),
        Told::Above => json!({"is_above": true}),
    };
    if let Value::Object(told) = told {
        object.extend(told);
    }
}

fn of_channel(data: &ChannelData) -> Value {
    let trace = data.trace.clone().unwrap_or_default();
    json!({
        "state": state(data),
        "channel_target": data.target,
        "calls_started": data.calls_started,
        "calls_succeeded": data.calls_succeeded,
        "calls_failed": data.calls_failed,
        "last_call_started": at(data.last_call_started_timestamp.as_ref()),
        "created": at(trace.creation_timestamp.as_ref()),
        "events_logged": trace.num_events_logged,
        "events": trace.events.iter().map(of_event).collect::<Vec<_>>(),
    })
}

fn of_event(event: &ChannelTraceEvent) -> Value {
    let child = event.child_ref.as_ref().map(|child| match child {
        ChildRef::ChannelRef(child) => json!({"kind": "channel", "id": child.channel_id}),
        ChildRef::SubchannelRef(child) => json!({"kind": "subchannel", "id": child.subchannel_id}),
    });
    json!({
        "time": at(event.timestamp.as_ref()),
        "severity": severity(event),
        "description": event.description,
        "child": child,
    })
}

fn of_socket(socket: &Socket) -> Value {
    let data = socket.data.clone().unwrap_or_default();
    let options = data.option.iter();
    let options = options.map(|option| (option.name.clone(), option.value.clone().into()));
    json!({
        "local": address(socket.local.as_ref()),
        "remote": address(socket.remote.as_ref()),
        "remote_name": socket.remote_name,
        "security": security(socket),
        "streams_started": data.streams_started,
        "streams_succeeded": data.streams_succeeded,
        "streams_failed": data.streams_failed,
        "messages_sent": data.messages_sent,
        "messages_received": data.messages_received,
        "keep_alives_sent": data.keep_alives_sent,
        "last_stream_created": at(data.last_local_stream_created_timestamp.as_ref()),
        "last_message_sent": at(data.last_message_sent_timestamp.as_ref()),
        "last_message_received": at(data.last_message_received_timestamp.as_ref()),
        "local_flow_control_window": data.local_flow_control_window,
        "remote_flow_control_window": data.remote_flow_control_window,
        "options": Value::Object(options.collect()),
    })
}

/// By RFC 3339, or null.
fn at(timestamp: Option<&prost_types::Timestamp>) -> Option<String> {
    time(timestamp).map(rfc3339)
}
