//! Asking a program for all of its channels, level by level.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt, stream};
use tonic::{Code, Request, Response, Status};
use tonic_health_channel::channel::BackendConnection;

use super::tree::{Answered, Kind, Reference, Told, Tree, of_channel, of_socket, of_subchannel};
use crate::{
    answer::Answer,
    ask::Backend,
    pb::channelz::{
        GetChannelRequest, GetSocketRequest, GetSubchannelRequest, GetTopChannelsRequest,
        channelz_client::ChannelzClient,
    },
};

/// Questions that are under way at a time. A program may have thousands of sockets.
const AT_A_TIME: usize = 16;

/// How many channels, subchannels and sockets are asked for at most. A program that names others
/// for ever ends there.
const MAX_NODES: usize = 20_000;

/// A server that cannot answer has none.
const LACKING: &str = "channelz service";

/// Everything that the program behind `backend` tells. Each question takes at most `timeout`.
pub(super) async fn walk(backend: &Backend, timeout: Duration) -> Result<Tree, Answer> {
    let mut tree = Tree::default();
    let mut seen = HashSet::new();
    let mut level = Vec::new();
    let mut start = 0;
    loop {
        let (channels, is_end) = top_channels(backend, timeout, start).await?;
        let highest = channels.iter().map(|(reference, _)| reference.id).max();
        for (reference, (told, below)) in channels {
            if !seen.insert((reference.kind, reference.id)) {
                continue;
            }
            let number = tree.add(reference, told, None);
            level.extend(below.into_iter().map(|child| (number, child)));
        }
        tree.is_cut |= tree.nodes.len() >= MAX_NODES;
        match highest {
            // A page that leads nowhere is the last one.
            Some(highest) if !is_end && !tree.is_cut && highest >= start => start = highest + 1,
            _ => break,
        }
    }
    while !level.is_empty() {
        let room = MAX_NODES.saturating_sub(tree.nodes.len());
        tree.is_cut |= level.len() > room;
        level.truncate(room);
        let questions = level.drain(..).map(|(parent, reference)| {
            let is_new = seen.insert((reference.kind, reference.id));
            async move {
                let answered = match is_new {
                    true => ask(backend, timeout, &reference).await?,
                    false => (Told::Above, Vec::new()),
                };
                Ok::<_, Answer>((parent, reference, answered))
            }
        });
        let questions: Vec<_> = questions.collect();
        let mut answers = stream::iter(questions).buffered(AT_A_TIME);
        while let Some(answer) = answers.next().await {
            let (parent, reference, (told, below)) = answer?;
            let number = tree.add(reference, told, Some(parent));
            level.extend(below.into_iter().map(|child| (number, child)));
        }
    }
    Ok(tree)
}

/// A page of the channels that the program itself has made, and whether it is the last.
async fn top_channels(
    backend: &Backend,
    timeout: Duration,
    start: i64,
) -> Result<(Vec<(Reference, Answered)>, bool), Answer> {
    let request = GetTopChannelsRequest {
        start_channel_id: start,
        max_results: 0,
    };
    let call = async |connection, request| client(connection).get_top_channels(request).await;
    let page = backend.call(timeout, request, LACKING, call).await?;
    let channels = page.channel.into_iter().map(of_channel);
    let channels = channels.filter_map(|(reference, answered)| Some((reference?, answered)));
    Ok((channels.collect(), page.end))
}

async fn ask(
    backend: &Backend,
    timeout: Duration,
    reference: &Reference,
) -> Result<Answered, Answer> {
    let id = reference.id;
    let answered = match reference.kind {
        Kind::Channel => {
            let request = GetChannelRequest { channel_id: id };
            let call = async |connection, request: Request<_>| {
                found(client(connection).get_channel(request).await)
            };
            let response = backend.call(timeout, request, LACKING, call).await?;
            let channel = response.and_then(|response| response.channel);
            channel.map(|channel| of_channel(channel).1)
        }
        Kind::Subchannel => {
            let request = GetSubchannelRequest { subchannel_id: id };
            let call = async |connection, request: Request<_>| {
                found(client(connection).get_subchannel(request).await)
            };
            let response = backend.call(timeout, request, LACKING, call).await?;
            let subchannel = response.and_then(|response| response.subchannel);
            subchannel.map(of_subchannel)
        }
        Kind::Socket => {
            let request = GetSocketRequest {
                socket_id: id,
                summary: false,
            };
            let call = async |connection, request: Request<_>| {
                found(client(connection).get_socket(request).await)
            };
            let response = backend.call(timeout, request, LACKING, call).await?;
            let socket = response.and_then(|response| response.socket);
            socket.map(of_socket)
        }
    };
    Ok(answered.unwrap_or((Told::Gone, Vec::new())))
}

fn client(connection: BackendConnection) -> ChannelzClient<BackendConnection> {
    ChannelzClient::new(connection)
}

/// It may have ended since it was named.
fn found<T>(answer: Result<Response<T>, Status>) -> Result<Response<Option<T>>, Status> {
    match answer {
        Ok(response) => Ok(response.map(Some)),
        Err(status) if status.code() == Code::NotFound => Ok(Response::new(None)),
        Err(status) => Err(status),
    }
}
