//! A DNS server of a test's own: what its zone holds, over UDP on a free port of 127.0.0.1.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What the server does with a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers from the zone; what is not in it gets NXDOMAIN.
    #[default]
    Answers,
    /// Says nothing.
    Silent,
    /// Says SERVFAIL.
    Fails,
    /// Says nothing to AAAA, and answers the rest.
    SilentToV6,
}

#[derive(Debug, Default)]
pub(crate) struct Zone {
    records: Vec<Record>,
    pub(crate) mood: Mood,
    /// `name TYPE` of every question, in order.
    pub(crate) asked: Vec<String>,
}

/// A running server; it ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let zone = Arc::new(Mutex::new(Zone::default()));
        tokio::spawn(serve(socket, Arc::clone(&zone)));
        Dns { address, zone }
    }

    pub(crate) fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().expect("whole")
    }

    /// Puts these addresses in the place of all records of the name.
    pub(crate) fn set(&self, name: &str, ttl: u32, ips: &[&str]) {
        let data = ips.iter().map(|ip| match ip.parse().expect("an address") {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        });
        self.put(name, ttl, data.collect());
    }

    /// The name is another name for `target`.
    pub(crate) fn alias(&self, name: &str, ttl: u32, target: &str) {
        self.put(name, ttl, vec![RData::CNAME(CNAME(fqdn(target)))]);
    }

    /// SRV records: priority, weight, port, target.
    pub(crate) fn services(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let data = records
            .iter()
            .map(|&(priority, weight, port, target)| RData::SRV(SRV::new(priority, weight, port, fqdn(target))));
        self.put(name, ttl, data.collect());
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.zone().mood = mood;
    }

    fn put(&self, name: &str, ttl: u32, data: Vec<RData>) {
        let name = fqdn(name);
        let mut zone = self.zone();
        zone.records.retain(|record| record.name != name);
        zone.records.extend(data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
    }
}

fn fqdn(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name")
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        let answer = zone.lock().expect("whole").answer(&question);
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer.to_vec().expect("it can be written"), peer).await;
        }
    }
}

impl Zone {
    fn answer(&mut self, message: &Message) -> Option<Message> {
        let query = message.queries.first()?;
        let kind = query.query_type();
        self.asked.push(format!("{} {kind}", query.name().to_ascii().to_ascii_lowercase().trim_end_matches('.')));
        let mut answer = Message::response(message.metadata.id, message.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match self.mood {
            Mood::Answers => {}
            Mood::SilentToV6 if kind == RecordType::AAAA => return None,
            Mood::SilentToV6 => {}
            Mood::Silent => return None,
            Mood::Fails => {
                answer.metadata.response_code = ResponseCode::ServFail;
                return Some(answer);
            }
        }
        let mut name = query.name().clone();
        let mut known = false;
        // At most so many aliases in a row.
        for _ in 0..8 {
            let of_name: Vec<_> = self.records.iter().filter(|record| record.name == name).collect();
            known |= !of_name.is_empty();
            answer.add_answers(of_name.iter().filter(|record| record.record_type() == kind).map(|&one| one.clone()));
            let alias = of_name.iter().find_map(|record| match &record.data {
                RData::CNAME(target) => Some(((*record).clone(), target.0.clone())),
                _ => None,
            });
            let Some((record, target)) = alias else { break };
            answer.add_answer(record);
            name = target;
        }
        if !known {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        Some(answer)
    }
}
