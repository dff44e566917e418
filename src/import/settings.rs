//! What modules are loaded and what their parameters say.

mod dispatcher;
mod others;

use std::collections::BTreeMap;

use super::Peer;
use super::draft::{Cluster, Listener, Probe, Source};
use super::report::{At, Report};
use super::syntax::{Parameter, Script, Setting};

/// Partitions' sets begin this far from each other.
const OFFSET: u32 = 1000;

#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) listeners: Vec<Listener>,
    /// The dispatcher's rows.
    pub(super) database: Source,
    pub(super) partitions: Vec<Source>,
    /// The one that is called the default.
    pub(super) default_partition: Option<String>,
    /// The load balancer's rows.
    pub(super) balanced: Option<Source>,
    /// The dispatcher's pings, if there are any.
    pub(super) probe: Probe,
    /// The sets that are pinged; none: all.
    pub(super) probing_list: Option<Vec<u32>>,
    pub(super) balanced_probe: Probe,
    /// Seconds that a dialog may last.
    pub(super) dialog_timeout: Option<u64>,
    /// Seconds between pings within dialogs.
    pub(super) dialog_ping: Option<u64>,
    pub(super) first_response_timeout: Option<String>,
    pub(super) final_timeout: Option<String>,
    pub(super) node_id: Option<String>,
    pub(super) cluster: Option<Cluster>,
    /// What OpenSIPS's modules use that name no database.
    default_url: Option<String>,
}

/// One parameter, and where what becomes of it is told.
struct Found<'p, 'r> {
    peer: Peer,
    parameter: &'p Parameter,
    report: &'r mut Report,
}

impl Found<'_, '_> {
    fn name(&self) -> &str {
        &self.parameter.name
    }

    fn value(&self) -> &str {
        self.parameter.value.trim()
    }

    fn number(&self) -> Option<u64> {
        self.value().parse().ok()
    }

    fn shown(&self) -> String {
        let Parameter { module, name, value, .. } = self.parameter;
        format!("{module} {name} = {value:?}")
    }

    fn mapped(&mut self, to: impl AsRef<str>) {
        self.report.mapped(self.parameter.at, self.shown(), to);
    }

    fn approximated(&mut self, to: impl AsRef<str>) {
        self.report.approximated(self.parameter.at, self.shown(), to);
    }

    fn not_mappable(&mut self, to: impl AsRef<str>) {
        self.report.not_mappable(self.parameter.at, self.shown(), to);
    }

    /// The number, or a line that says that it is none.
    fn number_or_told(&mut self) -> Option<u64> {
        let number = self.number();
        if number.is_none() {
            self.not_mappable("it is no number: give the key by hand");
        }
        number
    }
}

impl Settings {
    /// Gathers all that stands outside of routes.
    pub(super) fn of(peer: Peer, script: &Script, report: &mut Report) -> Self {
        let mut settings = Settings {
            probe: Probe {
                fall: if peer == Peer::OpenSips { 3 } else { 1 },
                rise: 1,
                only_when_down: true,
                ..Probe::default()
            },
            balanced_probe: Probe { fall: 1, rise: 1, ..Probe::default() },
            ..Settings::default()
        };
        for (module, at) in &script.modules {
            others::module(module, *at, report);
        }
        settings.globals(&script.settings, report);
        settings.default_partition = dispatcher::default_partition(peer, &script.parameters);
        let mut unknown: BTreeMap<&str, (At, usize)> = BTreeMap::new();
        for parameter in &script.parameters {
            let mut found = Found { peer, parameter, report };
            match parameter.module.as_str() {
                "dispatcher" => settings.dispatcher(&mut found),
                "load_balancer" => settings.load_balancer(&mut found),
                "dialog" => settings.dialog(&mut found),
                "clusterer" => settings.clusterer(&mut found),
                "tm" => settings.transactions(&mut found),
                module => unknown.entry(module).or_insert((parameter.at, 0)).1 += 1,
            }
        }
        for (module, (at, count)) in unknown {
            let parameters = if count == 1 { "1 parameter".to_owned() } else { format!("{count} parameters") };
            let to = if others::does_it_itself(module) {
                "Tandem has no such module: what it needs of this it does itself"
            } else {
                "they are about no dispatching: what they serve is told at its loadmodule"
            };
            report.mapped(at, format!("{module}: {parameters}"), to);
        }
        settings.finish(peer, script, report);
        settings
    }

    fn globals(&mut self, globals: &[Setting], report: &mut Report) {
        let mut advertised = (None, None);
        let mut port = 5060_u16;
        for Setting { name, value, more, at } in globals {
            match name.as_str() {
                "listen" | "socket" => self.listener(value, more, *at, port, report),
                "port" => port = value.parse().unwrap_or(port),
                "advertised_address" => advertised.0 = Some((value.clone(), *at)),
                "advertised_port" => advertised.1 = Some(value.clone()),
                "cfgengine" if value != "native" && value != "default" => {
                    let to = "no route was read, since another language than the native one has them: write the [[rule]] by hand";
                    report.not_mappable(*at, format!("{name} {value}"), to);
                }
                "alias" => report.approximated(
                    *at,
                    format!("{name} = {value}"),
                    "a name that stands in requests as ours is the listener's advertise; rules need none",
                ),
                "db_default_url" => {
                    report.mapped(*at, format!("{name} = {value:?}"), "[database] url, where a module names none");
                    self.default_url = Some(value.clone());
                }
                _ => {}
            }
        }
        if let (Some((host, at)), port) = advertised {
            let whole = port.map_or(host.clone(), |port| format!("{host}:{port}"));
            report.mapped(
                at,
                format!("advertised_address = {host}"),
                "[[listener]] advertise, of each without its own",
            );
            for listener in self.listeners.iter_mut().filter(|listener| listener.advertise.is_none()) {
                listener.advertise = Some(whole.clone());
            }
        }
    }

    fn listener(&mut self, value: &str, more: &[String], at: At, port: u16, report: &mut Report) {
        let found = format!("{} {}", value, more.join(" "));
        let found = format!("listen {}", found.trim());
        let (transport, address) = match value.split_once(':') {
            Some((name, rest)) if name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') && !name.is_empty() => {
                (name.to_ascii_lowercase(), rest)
            }
            _ => (String::new(), value),
        };
        let transports: &[&str] = match transport.as_str() {
            "udp" => &["udp"],
            "tcp" => &["tcp"],
            // Both peers listen on each transport that they have where none is named.
            "" => &["udp", "tcp"],
            "bin" => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                self.cluster.get_or_insert_default().bind = Some(format!("{host}:7946"));
                let to = "[cluster] bind, by UDP and port 7946; it is written as comments, since the nodes' key is to be made first";
                return report.approximated(at, found, to);
            }
            "tls" | "ws" | "wss" => {
                let to = "Tandem speaks UDP and TCP: let a proxy before it end TLS and WebSocket";
                return report.not_mappable(at, found, to);
            }
            _ => return report.not_mappable(at, found, "Tandem speaks UDP and TCP: give a [[listener]] of those"),
        };
        let (host, own_port) = match address.rsplit_once(':') {
            Some((host, digits)) if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) => {
                (host, digits.parse().unwrap_or(port))
            }
            _ => (address, port),
        };
        let bare = host.trim_matches(['[', ']']);
        let (host, is_address) = match bare.parse::<std::net::IpAddr>() {
            Ok(ip) if ip.is_ipv6() => (format!("[{bare}]"), true),
            Ok(_) => (bare.to_owned(), true),
            Err(_) => ("*".to_owned(), bare == "*" || bare.is_empty()),
        };
        let advertise = more.windows(2).find(|two| matches!(two[0].as_str(), "as" | "AS" | "advertise" | "ADVERTISE"));
        let advertise = advertise.map(|two| two[1].trim_matches('"').to_owned());
        let listeners: Vec<_> = transports
            .iter()
            .map(|transport| Listener { bind: format!("{transport}:{host}:{own_port}"), advertise: advertise.clone() })
            .collect();
        let shown: Vec<_> = listeners.iter().map(|one| format!("{:?}", one.bind)).collect();
        let advertised = advertise.map_or_else(String::new, |name| format!(", advertise = {name:?}"));
        let to = format!("[[listener]] bind = {}{advertised}", shown.join(" and "));
        let is_vip = more.iter().any(|word| word == "anycast" || word == "tag");
        if !is_address {
            let remedy =
                format!("{to}: {bare} is no address, so it is all of this machine's; give the one that is meant");
            report.approximated(at, found, remedy);
        } else if is_vip {
            report.approximated(at, found, format!("{to}; give role = \"vip\" if keepalived moves the address"));
        } else {
            report.mapped(at, found, to);
        }
        for listener in listeners {
            if !self.listeners.iter().any(|other| other.bind == listener.bind) {
                self.listeners.push(listener);
            }
        }
    }

    /// What follows from all together.
    fn finish(&mut self, peer: Peer, script: &Script, report: &mut Report) {
        let whole = At { file: 0, line: 0 };
        if self.listeners.is_empty() {
            self.listeners.push(Listener { bind: "udp:*:5060".into(), advertise: None });
            let to =
                "[[listener]] bind = \"udp:*:5060\": all addresses by UDP; give those that are meant, and TCP if it is";
            report.approximated(whole, "no listen or socket line", to);
        }
        for (socket, module) in
            [(&mut self.probe.socket, "dispatcher"), (&mut self.balanced_probe.socket, "load_balancer")]
        {
            let is_bound = |socket: &String| self.listeners.iter().any(|listener| listener.bind == *socket);
            if let Some(lost) = socket.take_if(|socket| !is_bound(socket)) {
                let to = "it is no [[listener]]: probes leave by the one that reaches the server; add it and name it";
                report.not_mappable(whole, format!("{module} probing socket {lost}"), to);
            }
        }
        let uses = |module: &str| script.modules.iter().any(|(name, _)| name == module);
        if peer == Peer::Kamailio {
            self.database.schema =
                self.database.url.as_ref().filter(|url| !url.starts_with("list:")).map(|_| "kamailio");
        } else if self.database.url.is_none() && uses("dispatcher") {
            self.database.url = self.default_url.clone();
        }
        // What holds for the module holds for its partitions.
        for partition in &mut self.partitions {
            partition.persist_state = partition.persist_state.or(self.database.persist_state);
            partition.columns.clone_from(&self.database.columns);
        }
        if let Some(balanced) = &mut self.balanced {
            balanced.url = balanced.url.take().or_else(|| self.default_url.clone());
        }
        if self.database.url.is_none() && self.partitions.is_empty() {
            if let Some(balanced) = self.balanced.take_if(|balanced| balanced.url.is_some()) {
                self.database = balanced;
            }
        } else if let Some(mut balanced) = self.balanced.take() {
            balanced.name = "load_balancer".into();
            self.partitions.push(balanced);
        }
        for (place, partition) in (1..).zip(&mut self.partitions) {
            partition.offset = place * OFFSET;
        }
    }
}
