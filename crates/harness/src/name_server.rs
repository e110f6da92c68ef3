//! A name server on a port of its own, with the names that a test gives it.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{SRV, TXT},
    },
};
use tokio::{net::UdpSocket, task::JoinHandle};

use super::Counter;

/// Answers over UDP. Dropping it closes its port.
#[derive(Debug)]
pub struct NameServer {
    addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<Counter>,
    answering: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Zone {
    records: BTreeMap<(String, RecordType), Vec<(u32, RData)>>,
    mood: Mood,
    asked: HashMap<(String, RecordType), usize>,
}

/// How it takes questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Answers,
    /// SERVFAIL to everybody.
    Fails,
    /// Not a word.
    Silent,
    /// Not a word to who asks for TXT records.
    IgnoresText,
    /// SERVFAIL to questions for addresses of IPv4.
    FailsV4,
    /// REFUSED, to the same.
    RefusesV4,
    /// Not a word to the same.
    IgnoresV4,
}

impl NameServer {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub async fn start_at(address: &str) -> Self {
        let socket = UdpSocket::bind(address).await.expect("a free port");
        let addr = socket.local_addr().expect("it is bound");
        let zone = Arc::<Mutex<Zone>>::default();
        let queries = Arc::new(Counter::new("queries"));
        let answering = tokio::spawn(answer_all(socket, zone.clone(), queries.clone()));
        Self {
            addr,
            zone,
            queries,
            answering,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on `name` has these addresses and no others, valid for `ttl` seconds.
    pub fn addresses<const N: usize>(&self, name: &str, ttl: u32, addresses: [&str; N]) {
        let parsed = addresses.map(|address| address.parse::<IpAddr>().expect("an address"));
        let all = parsed.into_iter();
        let (v4, v6): (Vec<_>, Vec<_>) = all.partition(IpAddr::is_ipv4);
        for (kind, addresses) in [(RecordType::A, v4), (RecordType::AAAA, v6)] {
            let records = addresses.into_iter().map(|ip| (ttl, RData::from(ip)));
            self.set(name, kind, records.collect());
        }
    }

    /// From now on `name` has these SRV records: priority, port and host.
    pub fn services<const N: usize>(&self, name: &str, records: [(u16, u16, &str); N]) {
        let records = records.map(|(priority, port, host)| {
            (60, RData::SRV(SRV::new(priority, 1, port, absolute(host))))
        });
        self.set(name, RecordType::SRV, records.into());
    }

    /// From now on `name` has this TXT record, cut into strings where it is long.
    pub fn text(&self, name: &str, text: &str) {
        let strings = text.as_bytes().chunks(255).collect();
        let records = vec![(60, RData::TXT(TXT::from_bytes(strings)))];
        self.set(name, RecordType::TXT, records);
    }

    /// From now on there is no such name.
    pub fn forget(&self, name: &str) {
        let name = absolute(name).to_string();
        self.zone().records.retain(|(known, _), _| *known != name);
    }

    pub fn mood(&self, mood: Mood) {
        self.zone().mood = mood;
    }

    /// How often `name` was asked for records of this kind.
    pub fn asked(&self, name: &str, kind: RecordType) -> usize {
        let key = (absolute(name).to_string(), kind);
        self.zone().asked.get(&key).copied().unwrap_or_default()
    }

    /// All queries so far.
    pub fn queries(&self) -> usize {
        self.queries.get()
    }

    /// Awaits that there were at least so many.
    pub async fn until_queries(&self, n: usize) {
        self.queries.until_at_least(n).await;
    }

    fn set(&self, name: &str, kind: RecordType, records: Vec<(u32, RData)>) {
        let key = (absolute(name).to_string(), kind);
        self.zone().records.insert(key, records);
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().expect("no holder of the zone panics")
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Zone {
    fn answer(&mut self, query: &Message) -> Option<Message> {
        let question = query.queries.first()?;
        let name = question.name().to_lowercase().to_string();
        let kind = question.query_type();
        *self.asked.entry((name.clone(), kind)).or_default() += 1;

        let mut response = Message::response(query.id, OpCode::Query);
        response.metadata.recursion_desired = true;
        response.metadata.recursion_available = true;
        response.add_query(question.clone());
        match self.mood {
            Mood::Silent => return None,
            Mood::Fails => response.metadata.response_code = ResponseCode::ServFail,
            Mood::IgnoresText if kind == RecordType::TXT => return None,
            Mood::IgnoresV4 if kind == RecordType::A => return None,
            Mood::FailsV4 if kind == RecordType::A => {
                response.metadata.response_code = ResponseCode::ServFail;
            }
            Mood::RefusesV4 if kind == RecordType::A => {
                response.metadata.response_code = ResponseCode::Refused;
            }
            _ => {
                let known = self
                    .records
                    .iter()
                    .any(|((known, _), records)| *known == name && !records.is_empty());
                if !known {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                for (ttl, data) in self.records.get(&(name, kind)).into_iter().flatten() {
                    let record = Record::from_rdata(question.name().clone(), *ttl, data.clone());
                    response.add_answer(record);
                }
            }
        }
        Some(response)
    }
}

async fn answer_all(socket: UdpSocket, zone: Arc<Mutex<Zone>>, queries: Arc<Counter>) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Ok(query) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let answer = zone
            .lock()
            .expect("no holder of the zone panics")
            .answer(&query);
        if let Some(answer) = answer {
            let bytes = answer.to_vec().expect("a message that can be written");
            // Whoever asked may be gone.
            let _ = socket.send_to(&bytes, from).await;
        }
        queries.add();
    }
}

fn absolute(name: &str) -> Name {
    let mut name: Name = name.to_lowercase().parse().expect("a name");
    name.set_fqdn(true);
    name
}
