//! `[[listener]]`: what we listen on, wildcards expanded to this machine's addresses.

use std::net::{IpAddr, SocketAddr};

use super::reader::Section;
use super::values::{self, Bind, NETWORK};
use crate::edge::interfaces;
use crate::engine::flow::{HostPort, Listener, ListenerId, Role, Sources};

/// All listeners, and how the file writes them.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// Each one's id is its index.
    pub(super) listeners: Vec<Listener>,
    /// A `bind` of the file, and the listeners that it became.
    written: Vec<(Bind, Vec<ListenerId>)>,
}

impl Bound {
    /// The listeners that a `bind` of the file stands for.
    pub(super) fn named(&self, text: &str) -> Result<Vec<ListenerId>, String> {
        let wanted = values::bind(text)?;
        match self.written.iter().find(|(bind, _)| *bind == wanted) {
            Some((_, ids)) => Ok(ids.clone()),
            None => Err("give the bind of a [[listener]] as it stands there".into()),
        }
    }

    /// The one listener of that address, which must be of the node itself; a wildcard's addresses are named one by one.
    pub(super) fn of_node(&self, text: &str) -> Result<ListenerId, String> {
        let wanted = values::bind(text)?;
        let found = self.listeners.iter().find(|one| (one.transport, one.bind) == (wanted.transport, wanted.address));
        match found.map(|listener| (listener.id, listener.role)) {
            Some((id, Role::Node)) => Ok(id),
            Some((_, Role::Vip)) => Err("give one of role node: answers to a vip may come to the other node".into()),
            None if wanted.address.ip().is_unspecified() => Err("give one address of this machine".into()),
            None => Err("give the bind of a [[listener]] of role node".into()),
        }
    }
}

/// Reads every `[[listener]]`.
pub(super) fn read(root: &Section<'_>) -> Bound {
    let mut bound = Bound::default();
    let sections = root.sections("listener");
    if sections.is_empty() && !root.has("listener") {
        root.fault_at("listener", "there is none: add [[listener]] with bind = \"udp:127.0.0.1:8060\"");
    }
    for section in &sections {
        read_one(section, &mut bound);
        section.finish();
    }
    bound
}

fn read_one(section: &Section<'_>, bound: &mut Bound) {
    let had_bind = section.text("bind", "transport:address:port", values::bind);
    let role = section.text("role", r#""node" or "vip""#, |text| match text {
        "node" => Ok(Role::Node),
        "vip" => Ok(Role::Vip),
        _ => Err("give node, or vip for an address that may move to the other node".into()),
    });
    let port = had_bind.map_or(5060, |bind| bind.address.port());
    let sources = Sources {
        allow: section.texts("allow", NETWORK, values::network).unwrap_or_default(),
        deny: section.texts("deny", NETWORK, values::network).unwrap_or_default(),
    };
    let advertise =
        section.text("advertise", "a host or address, with or without port", |text| values::advertise(text, port));
    let Some(bind) = had_bind else {
        if !section.has("bind") {
            section.fault("it has no bind: give one, as bind = \"udp:10.0.0.1:5060\"");
        }
        return;
    };
    let addresses = match expand(bind.address) {
        Ok(addresses) => addresses,
        Err(problem) => return section.fault_at("bind", &problem),
    };
    let mut ids = Vec::new();
    for address in addresses {
        let same = |listener: &&Listener| listener.transport == bind.transport && listener.bind == address;
        if address.port() != 0 && bound.listeners.iter().any(|listener| same(&listener)) {
            section.fault_at("bind", &format!("{address} is another [[listener]]'s too: drop one of them"));
            continue;
        }
        let id = ListenerId(bound.listeners.len() as u16);
        let advertise = advertise.clone().unwrap_or_else(|| HostPort::from(address));
        let role = role.unwrap_or_default();
        let sources = sources.clone();
        bound.listeners.push(Listener { id, transport: bind.transport, bind: address, advertise, role, sources });
        ids.push(id);
    }
    bound.written.push((bind, ids));
}

/// The addresses that a wildcard stands for, else the address itself.
fn expand(address: SocketAddr) -> Result<Vec<SocketAddr>, String> {
    if !address.ip().is_unspecified() {
        return Ok(vec![address]);
    }
    let all = interfaces::addresses()
        .map_err(|error| format!("this machine's addresses can't be listed ({error}): name them one by one"))?;
    let same_family = |ip: &IpAddr| ip.is_ipv4() == address.is_ipv4();
    Ok(all.into_iter().filter(same_family).map(|ip| SocketAddr::new(ip, address.port())).collect())
}
