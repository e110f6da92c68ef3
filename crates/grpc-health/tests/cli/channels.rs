//! `channels`: what a program tells of its own channels (gRFC A14).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use kit::Backend as Program;
use prost_types::Timestamp;
use testing::{
    Backend,
    channelz::{
        Address, Channel, ChannelConnectivityState, ChannelData, ChannelRef, ChannelTrace,
        ChannelTraceEvent, GetChannelRequest, GetChannelResponse, GetServerRequest,
        GetServerResponse, GetServerSocketsRequest, GetServerSocketsResponse, GetServersRequest,
        GetServersResponse, GetSocketRequest, GetSocketResponse, GetSubchannelRequest,
        GetSubchannelResponse, GetTopChannelsRequest, GetTopChannelsResponse, Security, Socket,
        SocketData, SocketOption, SocketRef, Subchannel, SubchannelRef,
        address::{self, TcpIpAddress},
        channel_trace_event::ChildRef,
        channelz_server::{Channelz, ChannelzServer},
        security::{self, Tls, tls::CipherSuite},
    },
    dead_addr,
};
use tonic::{Request, Response, Status};

use super::run::run;

const READY: i32 = 3;
const TRANSIENT_FAILURE: i32 = 4;

/// A program that has these, in pages of 2 channels.
#[derive(Clone, Default)]
struct Script {
    channels: BTreeMap<i64, Channel>,
    /// Of these the ones that it has made itself.
    top: Vec<i64>,
    subchannels: BTreeMap<i64, Subchannel>,
    sockets: BTreeMap<i64, Socket>,
    /// Each page is the first one, and not the last.
    never_ends: bool,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Channelz for Script {
    async fn get_top_channels(
        &self,
        request: Request<GetTopChannelsRequest>,
    ) -> Result<Response<GetTopChannelsResponse>, Status> {
        self.asked.fetch_add(1, SeqCst);
        let start = match self.never_ends {
            true => 0,
            false => request.into_inner().start_channel_id,
        };
        let rest: Vec<_> = self.top.iter().filter(|id| **id >= start).collect();
        let page = rest.iter().take(2).map(|id| self.channels[id].clone());
        Ok(Response::new(GetTopChannelsResponse {
            channel: page.collect(),
            end: rest.len() <= 2 && !self.never_ends,
        }))
    }

    async fn get_channel(
        &self,
        request: Request<GetChannelRequest>,
    ) -> Result<Response<GetChannelResponse>, Status> {
        let channel = self.channels.get(&request.into_inner().channel_id);
        let channel = Some(channel.ok_or_else(|| Status::not_found("gone"))?.clone());
        Ok(Response::new(GetChannelResponse { channel }))
    }

    async fn get_subchannel(
        &self,
        request: Request<GetSubchannelRequest>,
    ) -> Result<Response<GetSubchannelResponse>, Status> {
        let subchannel = self.subchannels.get(&request.into_inner().subchannel_id);
        let subchannel = Some(subchannel.ok_or_else(|| Status::not_found("gone"))?.clone());
        Ok(Response::new(GetSubchannelResponse { subchannel }))
    }

    async fn get_socket(
        &self,
        request: Request<GetSocketRequest>,
    ) -> Result<Response<GetSocketResponse>, Status> {
        let socket = self.sockets.get(&request.into_inner().socket_id);
        let socket = Some(socket.ok_or_else(|| Status::not_found("gone"))?.clone());
        Ok(Response::new(GetSocketResponse { socket }))
    }

    async fn get_servers(
        &self,
        _: Request<GetServersRequest>,
    ) -> Result<Response<GetServersResponse>, Status> {
        Err(Status::internal("it is not asked for"))
    }

    async fn get_server(
        &self,
        _: Request<GetServerRequest>,
    ) -> Result<Response<GetServerResponse>, Status> {
        Err(Status::internal("it is not asked for"))
    }

    async fn get_server_sockets(
        &self,
        _: Request<GetServerSocketsRequest>,
    ) -> Result<Response<GetServerSocketsResponse>, Status> {
        Err(Status::internal("it is not asked for"))
    }
}

impl Script {
    fn start(&self) -> Program {
        Program::start(ChannelzServer::new(self.clone()))
    }

    /// A channel that the program has made itself.
    fn top(mut self, id: i64, data: ChannelData, subchannels: &[i64]) -> Self {
        self.top.push(id);
        self.channels.insert(
            id,
            Channel {
                r#ref: Some(ChannelRef {
                    channel_id: id,
                    name: format!("dns:///shop-{id}"),
                }),
                data: Some(data),
                subchannel_ref: subchannels.iter().map(|id| subchannel_ref(*id)).collect(),
                ..Channel::default()
            },
        );
        self
    }

    fn subchannel(mut self, id: i64, data: ChannelData, sockets: &[i64]) -> Self {
        let socket_ref = sockets.iter().map(|id| SocketRef {
            socket_id: *id,
            name: String::new(),
        });
        self.subchannels.insert(
            id,
            Subchannel {
                r#ref: Some(subchannel_ref(id)),
                data: Some(data),
                socket_ref: socket_ref.collect(),
                ..Subchannel::default()
            },
        );
        self
    }
}

fn subchannel_ref(id: i64) -> SubchannelRef {
    SubchannelRef {
        subchannel_id: id,
        name: format!("10.0.0.{id}:50051"),
    }
}

fn data(state: i32, [started, succeeded, failed]: [i64; 3]) -> ChannelData {
    ChannelData {
        state: Some(ChannelConnectivityState { state }),
        calls_started: started,
        calls_succeeded: succeeded,
        calls_failed: failed,
        ..ChannelData::default()
    }
}

fn tcp(ip: &[u8], port: i32) -> Option<Address> {
    let tcp = TcpIpAddress {
        ip_address: ip.to_vec(),
        port,
    };
    Some(Address {
        address: Some(address::Address::TcpipAddress(tcp)),
    })
}

/// A channel with a backend that is READY by TLS, and one that is gone when it is asked for.
fn shop() -> Script {
    let event = |description: &str, severity, child_ref| ChannelTraceEvent {
        description: description.to_owned(),
        severity,
        timestamp: Some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        child_ref,
    };
    let child = Some(ChildRef::SubchannelRef(subchannel_ref(2)));
    let mut of_shop = data(TRANSIENT_FAILURE, [10, 6, 3]);
    of_shop.target = "dns:///shop.example:50051".to_owned();
    of_shop.trace = Some(ChannelTrace {
        num_events_logged: 40,
        creation_timestamp: Some(Timestamp {
            seconds: 1_600_000_000,
            nanos: 0,
        }),
        events: vec![
            event("Channel created", 1, None),
            event("Subchannel(id:2) created", 1, child),
            event("could not connect\u{1b}[2J\nroot: ok", 2, None),
        ],
    });
    let mut script =
        Script::default()
            .top(1, of_shop, &[2, 3])
            .subchannel(2, data(READY, [10, 6, 3]), &[5]);
    script.sockets.insert(
        5,
        Socket {
            data: Some(SocketData {
                streams_started: 12,
                streams_succeeded: 9,
                streams_failed: 2,
                messages_sent: 20,
                messages_received: 21,
                keep_alives_sent: 4,
                option: vec![SocketOption {
                    name: "TCP_NODELAY".to_owned(),
                    value: "1".to_owned(),
                    additional: None,
                }],
                ..SocketData::default()
            }),
            local: tcp(&[10, 0, 0, 9], 40_000),
            remote: tcp(&[10, 0, 0, 2], 50_051),
            security: Some(Security {
                model: Some(security::Model::Tls(Tls {
                    cipher_suite: Some(CipherSuite::StandardName(
                        "TLS_AES_128_GCM_SHA256".to_owned(),
                    )),
                    ..Tls::default()
                })),
            }),
            ..Socket::default()
        },
    );
    script
}

fn at(program: &Program) -> String {
    let uri = program.uri();
    uri.strip_prefix("http://").expect("plaintext").to_owned()
}

#[tokio::test]
async fn channels_subchannels_and_sockets_are_a_tree() {
    let program = shop().start();
    let ended = run(["channels", &at(&program)]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let [heading, channel, ready, socket, gone, empty, events @ ..] = &lines[..] else {
        panic!("{ended:?}");
    };
    for word in [
        "ID", "NAME", "STATE", "CALLS", "OK", "FAILED", "OPEN", "LAST",
    ] {
        assert!(heading.contains(word), "{heading}");
    }
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let expected = "channel 1 dns:///shop-1 TRANSIENT_FAILURE 10 6 3 1 never target \
                    dns:///shop.example:50051";
    assert_eq!(words(channel), words(expected));
    assert!(ready.starts_with("  subchannel 2 "), "{ready}");
    assert_eq!(
        words(ready),
        words("subchannel 2 10.0.0.2:50051 READY 10 6 3 1 never")
    );
    assert!(socket.starts_with("    socket 5 "), "{socket}");
    let expected = "socket 5 10.0.0.9:40000 -> 10.0.0.2:50051 - 12 9 2 1 never messages 20 out, 21 \
                    in, 4 PINGs, TLS_AES_128_GCM_SHA256";
    assert_eq!(words(socket), words(expected));
    assert_eq!(words(gone), words("subchannel 3 10.0.0.3:50051 gone"));
    assert_eq!(*empty, "");
    let time = "2023-11-14T22:13:20.000Z";
    let expected = [
        "TIME OF SEVERITY EVENT".to_owned(),
        format!("{time} channel 1 INFO Channel created"),
        format!("{time} channel 1 INFO Subchannel(id:2) created"),
        // A peer's text does not speak to the terminal.
        format!("{time} channel 1 WARNING could not connect\\u{{1b}}[2J\\nroot: ok"),
    ];
    assert_eq!(
        events.iter().map(|line| words(line)).collect::<Vec<_>>(),
        expected.map(|line| words(&line))
    );

    let ended = run(["channels", &at(&program), "--events", "1"]).await;
    assert!(ended.stdout.contains("could not connect"), "{ended:?}");
    assert!(!ended.stdout.contains("Channel created"), "{ended:?}");
    let ended = run(["channels", &at(&program), "--events", "0"]).await;
    assert_eq!(ended.stdout.lines().count(), 5, "{ended:?}");
}

#[tokio::test]
async fn each_is_a_json_object_with_its_parent() {
    let program = shop().start();
    let ended = run(["channels", &at(&program), "--output", "json"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let objects = ended.objects();
    let ids = objects
        .iter()
        .map(|object| (object["kind"].as_str(), object["id"].as_i64()));
    let expected = [
        ("channel", 1),
        ("subchannel", 2),
        ("socket", 5),
        ("subchannel", 3),
    ];
    assert_eq!(
        ids.collect::<Vec<_>>(),
        expected.map(|(kind, id)| (Some(kind), Some(id)))
    );
    let [channel, _, socket, gone] = &objects[..] else {
        panic!("{ended:?}");
    };
    assert_eq!(channel["parent"], serde_json::Value::Null);
    assert_eq!(channel["state"], "TRANSIENT_FAILURE");
    assert_eq!(channel["channel_target"], "dns:///shop.example:50051");
    assert_eq!(channel["calls_failed"], 3);
    assert_eq!(channel["created"], "2020-09-13T12:26:40.000Z");
    assert_eq!(channel["events_logged"], 40);
    assert_eq!(channel["events"][1]["child"]["id"], 2);
    assert_eq!(
        channel["events"][2]["description"],
        "could not connect\u{1b}[2J\nroot: ok"
    );
    assert_eq!(socket["parent"]["id"], 2);
    assert_eq!(socket["local"], "10.0.0.9:40000");
    assert_eq!(socket["options"]["TCP_NODELAY"], "1");
    assert_eq!(socket["security"], "TLS_AES_128_GCM_SHA256");
    assert_eq!(gone["is_gone"], true);
}

#[tokio::test]
async fn pages_follow_each_other_to_the_last() {
    let ids = [3, 7, 8, 20, 21];
    let script = ids.into_iter().fold(Script::default(), |script, id| {
        script.top(id, data(READY, [0; 3]), &[])
    });
    let program = script.start();
    let ended = run(["channels", &at(&program), "--output", "json"]).await;
    let objects = ended.objects();
    let told = objects
        .iter()
        .map(|object| object["id"].as_i64().expect("an id"));
    assert_eq!(told.collect::<Vec<_>>(), ids);
    assert_eq!(script.asked.load(SeqCst), 3);
}

#[tokio::test]
async fn a_program_that_goes_in_circles_is_left() {
    // Pages without an end, and a channel below itself.
    let mut script = Script::default().top(1, data(READY, [0; 3]), &[]);
    let itself = script.channels[&1].r#ref.clone().expect("a reference");
    script
        .channels
        .get_mut(&1)
        .expect("it is there")
        .channel_ref = vec![itself];
    script.never_ends = true;
    let program = script.start();
    let ended = run(["channels", &at(&program), "--events", "0"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let rows = ended.rows();
    assert_eq!(rows.len(), 2, "{ended:?}");
    assert_eq!(rows[1], ["channel", "1", "dns:///shop-1", "above"]);
    assert_eq!(script.asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_program_without_channels_says_so() {
    let program = Script::default().start();
    let ended = run(["channels", &at(&program)]).await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "no channels\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_server_without_channelz_is_3_and_none_at_all_2() {
    let backend = Backend::start().await;
    let at = backend.addr().to_string();
    let ended = run(["channels", &at]).await;
    ended.fails(
        3,
        &format!("error: {at}: UNIMPLEMENTED (no channelz service)"),
    );
    let ended = run(["channels", &at, "--output", "json"]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ended.objects()[0]["code"], 3);

    let dead = dead_addr();
    let at = dead.addr().to_string();
    let ended = run(["channels", &at]).await;
    ended.fails(2, &format!("error: {at}: connect: connection refused"));
}
