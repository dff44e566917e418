//! Whether a probe can leave and come to its destination. Probes leave by a listener of the node itself.

use std::net::SocketAddr;

use crate::engine::dispatch::{CheckKind, Policy, Sets};
use crate::engine::flow::{Listener, ListenerId, Role, Transport};

/// Why no SIP probe can reach a destination from these listeners; its address is none as long as it is a name.
pub(super) fn no_way(
    listeners: &[Listener],
    socket: Option<ListenerId>,
    transport: Transport,
    address: Option<SocketAddr>,
) -> Option<String> {
    let reaches = |listener: &Listener| {
        listener.role == Role::Node
            && listener.transport == transport
            && socket.is_none_or(|socket| socket == listener.id)
            && address.is_none_or(|address| listener.reaches(address))
    };
    let name = transport.name();
    match socket {
        _ if listeners.iter().any(reaches) => None,
        None => Some(format!("no listener of role node reaches it by {name}, and probes leave by one: add one")),
        Some(_) => Some(format!("the probe's socket does not reach it by {name}: name one that does, or drop it")),
    }
}

/// Rows that no SIP probe can reach though their sets are probed, and destinations of the configuration without a row.
pub(in crate::config) fn strays(policies: &[Policy], listeners: &[Listener], sets: &Sets) -> Vec<String> {
    let mut strays = Vec::new();
    for policy in policies {
        let rows = || sets.0.iter().filter(|set| set.id == policy.set).flat_map(|set| &set.rows);
        let number = policy.set.0;
        for row in rows() {
            let socket = policy.probing_of(&row.uri).checks.iter().find_map(|check| match &check.kind {
                CheckKind::Sip(sip) => Some(sip.socket),
                CheckKind::Tcp { .. } | CheckKind::Http { .. } => None,
            });
            let address = row.is_resolved().then_some(row.address);
            let problem = socket.and_then(|socket| no_way(listeners, socket, row.transport, address));
            strays.extend(problem.map(|problem| format!("set {number}: {} is not probed: {problem}", row.uri)));
        }
        let probed = policy.probing_instead.iter().map(|(uri, _)| uri);
        let asked =
            policy.agent_instead.iter().map(|(uri, _)| uri).filter(|uri| !probed.clone().any(|one| one == *uri));
        for uri in probed.clone().chain(asked).filter(|uri| rows().all(|row| row.uri != **uri)) {
            strays.push(format!(
                "set {number}: no row has the destination {uri} of a [[set.destination]]: mend or drop it"
            ));
        }
    }
    strays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::parse;
    use crate::engine::dispatch::{Row, Set, SetId};

    #[test]
    fn rows_that_no_probe_reaches_and_destinations_without_a_row_are_told() {
        let text = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n[[listener]]\nbind = \"tcp:127.0.0.1:8060\"\n\
                    role = \"vip\"\n[[set]]\nid = 19\nprobe = { interval = \"1s\" }\n[[set.destination]]\n\
                    uri = \"sip:127.0.0.1:7019\"\nprobe = { fall = 1 }\n";
        let config = parse(text).expect("valid");
        let row = |uri: &str, transport| Row { transport, ..Row::new(uri.to_owned(), ([127, 0, 0, 1], 7010).into()) };
        let rows = vec![row("sip:a", Transport::Udp), row("sip:b;transport=tcp", Transport::Tcp)];
        let sets = |id| Sets(vec![Set { id: SetId(id), rows: rows.clone() }]);
        let unreached = "set 19: sip:b;transport=tcp is not probed: no listener of role node reaches it by tcp, and probes \
                         leave by one: add one";
        let unknown = "set 19: no row has the destination sip:127.0.0.1:7019 of a [[set.destination]]: mend or drop it";
        assert_eq!(config.strays(&sets(19)), [unreached, unknown]);
        assert_eq!(config.strays(&sets(20)), [unknown]);
    }
}
