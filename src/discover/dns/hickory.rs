//! Name servers, asked by us: `hickory-resolver`.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::OnceLock,
    time::Duration,
};

use futures_util::{
    Stream,
    future::{self, Either},
    stream,
};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, rdata::SRV},
};
use tokio::{sync::mpsc, time};

use super::{
    found::{Families, Found, MAX_ADDRESSES},
    target::{DnsTarget, Host},
    txt,
};
use crate::{error::Error, service_config::ServiceConfig};

/// The most hosts that a service may have, and how many of them are looked up at a time.
const MAX_HOSTS: usize = 1_000;
const AT_A_TIME: usize = 64;

/// How long a service config may keep addresses waiting: one try at one name server.
const CONFIG_PATIENCE: Duration = Duration::from_secs(5);

/// What the TXT records say, as they change.
pub(super) type ConfigUpdates = Pin<Box<dyn Stream<Item = ConfigUpdate> + Send>>;

type ConfigUpdate = Result<Option<ServiceConfig>, Error>;

#[derive(Clone, Default)]
pub(super) struct Hickory {
    /// Those of the system if there are none.
    servers: Vec<SocketAddr>,
    looks_up_config: bool,
    /// Who wants to know of service configs.
    configs: Option<Configs>,
}

#[derive(Clone)]
struct Configs {
    updates: mpsc::UnboundedSender<ConfigUpdate>,
    /// The text that was told last, if any was.
    sent: Option<Option<String>>,
}

/// A lookup that did not find what it was for.
enum Failure {
    /// There is no such name, or nothing of this kind at it.
    Nothing(&'static str),
    /// Nobody knows.
    NoAnswer(String),
}

impl Hickory {
    pub(super) fn add_server(&mut self, server: SocketAddr) {
        self.servers.push(server);
    }

    pub(super) fn look_up_config(&mut self) {
        self.looks_up_config = true;
    }

    /// `None` if nobody asked for them. Replaces those that it made before.
    pub(super) fn config_updates(&mut self) -> Option<ConfigUpdates> {
        if !self.looks_up_config {
            return None;
        }
        let (updates, updated) = mpsc::unbounded_channel();
        self.configs = Some(Configs {
            updates,
            sent: None,
        });
        let next = async |mut updated: mpsc::UnboundedReceiver<_>| {
            let update = updated.recv().await?;
            Some((update, updated))
        };
        Some(Box::pin(stream::unfold(updated, next)))
    }

    /// As [`Resolver::look_up`](super::lookup::Resolver::look_up); tells of the service
    /// config too.
    pub(super) async fn look_up(
        &mut self,
        target: &DnsTarget,
        port: u16,
        limit: Duration,
    ) -> Result<Found, String> {
        let v4 = self.make(LookupIpStrategy::Ipv4Only);
        let v6 = self.make(LookupIpStrategy::Ipv6Only);
        let resolvers = match (v4, v6) {
            (Ok(v4), Ok(v6)) => Resolvers {
                v4,
                v6,
                patience: limit / 4 * 3,
            },
            (Err(error), _) | (_, Err(error)) => {
                return Err(format!("cannot be looked up: {error}"));
            }
        };
        // A channel may have no use for them.
        let configs = self.configs.as_mut();
        let configs = configs.filter(|configs| !configs.updates.is_closed());
        let config = async {
            if let Some(configs) = configs {
                let patience = CONFIG_PATIENCE.min(limit / 2);
                configs.look_up(&resolvers.v4, target, patience).await;
            }
        };
        let (found, ()) = future::join(addresses(&resolvers, target, port), config).await;
        found.map_err(|failure| match failure {
            Failure::Nothing(what) => what.to_owned(),
            Failure::NoAnswer(why) => format!("does not resolve: {why}"),
        })
    }

    /// For one lookup: the system's configuration may have changed since the last one,
    /// and a cache would only answer with what is not true any more. How often name
    /// servers are asked is for the machine to decide.
    fn make(&self, families: LookupIpStrategy) -> Result<TokioResolver, NetError> {
        let mut builder = match self.servers.is_empty() {
            true => TokioResolver::builder_tokio()?,
            false => {
                let servers = self.servers.iter().map(|server| {
                    let mut config = NameServerConfig::udp_and_tcp(server.ip());
                    for connection in &mut config.connections {
                        connection.port = server.port();
                    }
                    config
                });
                let config = ResolverConfig::from_name_servers(servers.collect());
                let provider = TokioRuntimeProvider::default();
                let mut builder = Resolver::builder_with_config(config, provider);
                builder.options_mut().use_hosts_file = ResolveHosts::Never;
                builder
            }
        };
        builder.options_mut().ip_strategy = families;
        builder.build()
    }
}

impl Configs {
    async fn look_up(&mut self, resolver: &TokioResolver, target: &DnsTarget, patience: Duration) {
        let host = match &target.host {
            Host::Name(name) | Host::Service { name, .. } => name,
            Host::Address(_) => return self.send("", None),
        };
        let name = format!("_grpc_config.{host}");
        let lookup = time::timeout(patience, resolver.txt_lookup(name.as_str()));
        match lookup.await.unwrap_or(Err(NetError::Timeout)) {
            Ok(lookup) => self.send(&name, text(&lookup)),
            Err(error) if error.is_no_records_found() => self.send(&name, None),
            // Name servers that do not know the type, and hours without any, must not
            // keep calls waiting for a config that few have.
            Err(_) if self.sent.is_none() => self.send(&name, None),
            Err(_) => {}
        }
    }

    fn send(&mut self, name: &str, text: Option<String>) {
        if self.sent.as_ref() == Some(&text) {
            return;
        }
        let update = match &text {
            Some(text) => txt::choose(name, text, client()),
            None => Ok(None),
        };
        // A channel that is gone does not want to know.
        let _ = self.updates.send(update);
        self.sent = Some(text);
    }
}

/// Who we are, for the choice between configs: the same for the whole process, so that
/// its channels agree and a config does not come and go.
fn client() -> &'static txt::Client {
    static CLIENT: OnceLock<txt::Client> = OnceLock::new();
    CLIENT.get_or_init(|| txt::Client {
        hostname: gethostname::gethostname().to_string_lossy().into_owned(),
        draw: fastrand::u8(..100),
    })
}

/// The first record that is about gRPC; its strings are one text.
fn text(lookup: &Lookup) -> Option<String> {
    lookup
        .answers()
        .iter()
        .find_map(|record| match &record.data {
            RData::TXT(txt) => {
                let text = String::from_utf8_lossy(&txt.txt_data.concat()).into_owned();
                text.starts_with(txt::PREFIX).then_some(text)
            }
            _ => None,
        })
}

/// One for each family, as a lookup of both does not tell which of them failed.
struct Resolvers {
    v4: TokioResolver,
    v6: TokioResolver,
    /// How long one family may keep the other waiting.
    patience: Duration,
}

async fn addresses(resolver: &Resolvers, target: &DnsTarget, port: u16) -> Result<Found, Failure> {
    match &target.host {
        Host::Service { full, .. } => service(resolver, full).await,
        Host::Name(name) => host(resolver, name, port).await,
        Host::Address(address) => host(resolver, &address.ip.to_string(), port).await,
    }
}

/// The addresses of both families. One that cannot be looked up is unknown: it takes nothing
/// from the other.
async fn host(resolvers: &Resolvers, name: &str, port: u16) -> Result<Found, Failure> {
    let until = time::Instant::now() + resolvers.patience;
    let family =
        async |resolver: &TokioResolver| resolver.lookup_ip(name).await.map_err(Failure::from);
    let (v4, v6) = (pin!(family(&resolvers.v4)), pin!(family(&resolvers.v6)));
    let both = match future::select(v4, v6).await {
        Either::Left((v4, v6)) => {
            let v6 = behind(&v4, v6, until).await;
            (v4, v6)
        }
        Either::Right((v6, v4)) => {
            let v4 = behind(&v6, v4, until).await;
            (v4, v6)
        }
    };
    let (lookups, unknown) = match both {
        // Found behind different search domains, they are not of one name.
        (Ok(v4), Ok(v6)) if v4.query().name() != v6.query().name() => {
            (vec![v4], Families::default())
        }
        (Ok(v4), Ok(v6)) => (vec![v4, v6], Families::default()),
        (Ok(v4), Err(why)) => (
            vec![v4],
            Families {
                v4: false,
                v6: why.is_unknown(),
            },
        ),
        (Err(why), Ok(v6)) => (
            vec![v6],
            Families {
                v4: why.is_unknown(),
                v6: false,
            },
        ),
        // More servers answer for A than for AAAA, so its failure says more.
        (Err(why), Err(other)) => {
            return Err(if other.is_unknown() && !why.is_unknown() {
                other
            } else {
                why
            });
        }
    };
    let addresses = lookups.iter().flat_map(|lookup| lookup.iter());
    Ok(Found {
        addresses: addresses.map(|ip| SocketAddr::new(ip, port)).collect(),
        valid: lookups
            .iter()
            .filter_map(|lookup| validity(lookup.as_lookup()))
            .min(),
        unknown,
    })
}

/// The second of two lookups. If the first has found something, it does not wait for ever.
async fn behind<T>(
    first: &Result<T, Failure>,
    second: impl Future<Output = Result<T, Failure>>,
    until: time::Instant,
) -> Result<T, Failure> {
    match first {
        Ok(_) => {
            let second = time::timeout_at(until, second).await;
            second.unwrap_or_else(|_| Err(NetError::Timeout.into()))
        }
        Err(_) => second.await,
    }
}

/// The hosts of the best priority of which any has an address (RFC 2782).
async fn service(resolver: &Resolvers, name: &str) -> Result<Found, Failure> {
    let lookup = resolver.v4.srv_lookup(name).await.map_err(Failure::from)?;
    let answers = lookup.answers().iter();
    let mut records: Vec<_> = answers
        .filter_map(|record| match &record.data {
            RData::SRV(record) => Some(record),
            _ => None,
        })
        .collect();
    records.sort_by_key(|record| record.priority);
    for equal in records.chunk_by(|a, b| a.priority == b.priority) {
        let mut found = hosts(resolver, equal).await?;
        if !found.addresses.is_empty() {
            found.valid = found.valid.into_iter().chain(validity(&lookup)).min();
            return Ok(found);
        }
    }
    Err(Failure::Nothing("produced zero addresses"))
}

/// All of them together. A host without an address is left out; one of which nobody
/// knows makes the whole unknown, for to leave it out would be to remove it.
async fn hosts(resolver: &Resolvers, records: &[&SRV]) -> Result<Found, Failure> {
    if records.len() > MAX_HOSTS {
        let why = format!("more than {MAX_HOSTS} hosts");
        return Err(Failure::NoAnswer(why));
    }
    let mut all = Found::default();
    for some in records.chunks(AT_A_TIME) {
        let lookups = some.iter().map(async |record| {
            // A lone dot says that there is no such service.
            match record.target.is_root() {
                true => Err(Failure::Nothing(
                    "is not available: the target of its SRV record is `.`",
                )),
                false => host(resolver, &record.target.to_ascii(), record.port).await,
            }
        });
        for outcome in future::join_all(lookups).await {
            match outcome {
                Ok(found) => {
                    all.addresses.extend(found.addresses);
                    all.unknown = all.unknown.or(found.unknown);
                    all.valid = all.valid.into_iter().chain(found.valid).min();
                }
                Err(Failure::Nothing(_)) => {}
                Err(unknown) => return Err(unknown),
            }
        }
        // What is too many is said by who asked.
        if all.addresses.len() > MAX_ADDRESSES {
            break;
        }
    }
    Ok(all)
}

fn validity(lookup: &Lookup) -> Option<Duration> {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min()?;
    Some(Duration::from_secs(seconds.into()))
}

impl Failure {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::NoAnswer(_))
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        match error {
            error if error.is_nx_domain() => Self::Nothing("does not exist"),
            error if error.is_no_records_found() => Self::Nothing("produced zero addresses"),
            NetError::Timeout | NetError::NoConnections => {
                Self::NoAnswer(format!("no name server answers: {error}"))
            }
            error => Self::NoAnswer(error.to_string()),
        }
    }
}
