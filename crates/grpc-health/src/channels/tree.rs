//! Channels, subchannels and sockets as they stand below each other.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use prost_types::Timestamp;

use crate::pb::channelz::{
    Address, Channel, ChannelData, ChannelRef, ChannelTraceEvent, Socket, SocketRef, Subchannel,
    SubchannelRef, address, channel_connectivity_state::State, channel_trace_event::Severity,
    security,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Channel,
    Subchannel,
    Socket,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Channel => "channel",
            Self::Subchannel => "subchannel",
            Self::Socket => "socket",
        })
    }
}

/// By what a program names one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) id: i64,
    pub(super) name: String,
}

impl From<ChannelRef> for Reference {
    fn from(reference: ChannelRef) -> Self {
        Self {
            kind: Kind::Channel,
            id: reference.channel_id,
            name: reference.name,
        }
    }
}

impl From<SubchannelRef> for Reference {
    fn from(reference: SubchannelRef) -> Self {
        Self {
            kind: Kind::Subchannel,
            id: reference.subchannel_id,
            name: reference.name,
        }
    }
}

impl From<SocketRef> for Reference {
    fn from(reference: SocketRef) -> Self {
        Self {
            kind: Kind::Socket,
            id: reference.socket_id,
            name: reference.name,
        }
    }
}

/// The program's word on it.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Channel(ChannelData),
    Socket(Box<Socket>),
    /// It ended before it was asked for.
    Gone,
    /// It stands elsewhere in the tree, too.
    Above,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) reference: Reference,
    pub(super) told: Told,
    pub(super) parent: Option<usize>,
    /// In the order in which the program names them.
    pub(super) children: Vec<usize>,
}

/// All that a program has told. Parents come before their children.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// There is more than was asked for.
    pub(super) is_cut: bool,
}

/// An answer, and what stands below it.
pub(super) type Answered = (Told, Vec<Reference>);

pub(super) fn of_channel(channel: Channel) -> (Option<Reference>, Answered) {
    let below = below(
        channel.channel_ref,
        channel.subchannel_ref,
        channel.socket_ref,
    );
    let told = Told::Channel(channel.data.unwrap_or_default());
    (channel.r#ref.map(Reference::from), (told, below))
}

pub(super) fn of_subchannel(subchannel: Subchannel) -> Answered {
    let Subchannel {
        channel_ref,
        subchannel_ref,
        socket_ref,
        ..
    } = subchannel;
    let below = below(channel_ref, subchannel_ref, socket_ref);
    (Told::Channel(subchannel.data.unwrap_or_default()), below)
}

pub(super) fn of_socket(socket: Socket) -> Answered {
    (Told::Socket(Box::new(socket)), Vec::new())
}

fn below(
    channels: Vec<ChannelRef>,
    subchannels: Vec<SubchannelRef>,
    sockets: Vec<SocketRef>,
) -> Vec<Reference> {
    let channels = channels.into_iter().map(Reference::from);
    let subchannels = subchannels.into_iter().map(Reference::from);
    let sockets = sockets.into_iter().map(Reference::from);
    channels.chain(subchannels).chain(sockets).collect()
}

impl Tree {
    /// Its number, for its children.
    pub(super) fn add(&mut self, reference: Reference, told: Told, parent: Option<usize>) -> usize {
        let number = self.nodes.len();
        if let Some(parent) = parent {
            self.nodes[parent].children.push(number);
        }
        self.nodes.push(Node {
            reference,
            told,
            parent,
            children: Vec::new(),
        });
        number
    }

    /// Each node with its depth, children behind their parent.
    pub(super) fn rows(&self) -> Vec<(usize, &Node)> {
        let is_root = |&number: &usize| self.nodes[number].parent.is_none();
        let roots = (0..self.nodes.len()).rev().filter(is_root);
        let mut stack: Vec<_> = roots.map(|number| (0, number)).collect();
        let mut rows = Vec::with_capacity(self.nodes.len());
        while let Some((depth, number)) = stack.pop() {
            let node = &self.nodes[number];
            rows.push((depth, node));
            let children = node.children.iter().rev();
            stack.extend(children.map(|child| (depth + 1, *child)));
        }
        rows
    }
}

/// gRPC's name of the state, if it has one.
pub(super) fn state(data: &ChannelData) -> Option<&'static str> {
    let state = data.state.as_ref()?;
    let state = State::try_from(state.state).unwrap_or(State::Unknown);
    Some(state.as_str_name())
}

pub(super) fn severity(event: &ChannelTraceEvent) -> &'static str {
    match Severity::try_from(event.severity) {
        Ok(Severity::CtInfo) => "INFO",
        Ok(Severity::CtWarning) => "WARNING",
        Ok(Severity::CtError) => "ERROR",
        Ok(Severity::CtUnknown) | Err(_) => "UNKNOWN",
    }
}

/// The time since 1970, unless it is before that.
pub(super) fn time(timestamp: Option<&Timestamp>) -> Option<Duration> {
    let timestamp = timestamp?;
    let seconds = u64::try_from(timestamp.seconds).ok()?;
    let nanos = u32::try_from(timestamp.nanos).ok()?;
    // An unset time of some implementations.
    if (seconds, nanos) == (0, 0) {
        return None;
    }
    Some(Duration::new(seconds, nanos.min(999_999_999)))
}

/// `10.0.0.1:50051`, `[::1]:50051`, `unix:/path`, or its name.
pub(super) fn address(address: Option<&Address>) -> Option<String> {
    Some(match address?.address.as_ref()? {
        address::Address::TcpipAddress(tcp) => {
            let ip = match &tcp.ip_address[..] {
                [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d)),
                bytes => match <[u8; 16]>::try_from(bytes) {
                    Ok(bytes) => IpAddr::V6(Ipv6Addr::from(bytes)),
                    Err(_) => return Some(format!("an address of {} bytes", bytes.len())),
                },
            };
            match u16::try_from(tcp.port) {
                Ok(port) => SocketAddr::new(ip, port).to_string(),
                Err(_) => ip.to_string(),
            }
        }
        address::Address::UdsAddress(unix) => format!("unix:{}", unix.filename),
        address::Address::OtherAddress(other) => other.name.clone(),
    })
}

/// The cipher suite of a socket, or the name of other security. `None` if it is in plaintext, or
/// does not tell.
pub(super) fn security(socket: &Socket) -> Option<String> {
    let model = socket.security.as_ref()?.model.as_ref()?;
    Some(match model {
        security::Model::Tls(tls) => match &tls.cipher_suite {
            Some(
                security::tls::CipherSuite::StandardName(name)
                | security::tls::CipherSuite::OtherName(name),
            ) => name.clone(),
            None => "TLS".to_owned(),
        },
        security::Model::Other(other) => other.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::channelz::address::{OtherAddress, TcpIpAddress, UdsAddress};

    fn at(address: address::Address) -> Option<String> {
        super::address(Some(&Address {
            address: Some(address),
        }))
    }

    #[test]
    fn an_address_is_as_people_write_it() {
        let tcp = |bytes: &[u8], port| {
            at(address::Address::TcpipAddress(TcpIpAddress {
                ip_address: bytes.to_vec(),
                port,
            }))
        };
        let mut loopback = [0; 16];
        loopback[15] = 1;
        assert_eq!(
            tcp(&[10, 0, 0, 1], 50051).as_deref(),
            Some("10.0.0.1:50051")
        );
        assert_eq!(tcp(&loopback, 80).as_deref(), Some("[::1]:80"));
        assert_eq!(tcp(&[10, 0, 0, 1], -1).as_deref(), Some("10.0.0.1"));
        assert_eq!(
            tcp(&[1, 2, 3], 80).as_deref(),
            Some("an address of 3 bytes")
        );
        let unix = UdsAddress {
            filename: "/run/a".to_owned(),
        };
        assert_eq!(
            at(address::Address::UdsAddress(unix)).as_deref(),
            Some("unix:/run/a")
        );
        let other = OtherAddress {
            name: "a pipe".to_owned(),
            value: None,
        };
        assert_eq!(
            at(address::Address::OtherAddress(other)).as_deref(),
            Some("a pipe")
        );
        assert_eq!(super::address(Some(&Address { address: None })), None);
    }

    #[test]
    fn a_time_that_makes_no_sense_is_none() {
        let time = |seconds, nanos| super::time(Some(&Timestamp { seconds, nanos }));
        assert_eq!(time(0, 0), None);
        assert_eq!(time(-1, 0), None);
        assert_eq!(time(1, -1), None);
        assert_eq!(
            time(i64::MAX, 0),
            Some(Duration::from_secs(i64::MAX as u64))
        );
        assert_eq!(time(1, i32::MAX), Some(Duration::new(1, 999_999_999)));
    }

    #[test]
    fn children_stand_behind_their_parent_in_their_order() {
        let mut tree = Tree::default();
        let reference = |id| Reference {
            kind: Kind::Channel,
            id,
            name: String::new(),
        };
        let first = tree.add(reference(1), Told::Gone, None);
        tree.add(reference(2), Told::Gone, None);
        let child = tree.add(reference(3), Told::Gone, Some(first));
        tree.add(reference(4), Told::Gone, Some(first));
        tree.add(reference(5), Told::Gone, Some(child));
        let rows = tree
            .rows()
            .into_iter()
            .map(|(depth, node)| (depth, node.reference.id));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [(0, 1), (1, 3), (2, 5), (1, 4), (0, 2)]
        );
    }
}
