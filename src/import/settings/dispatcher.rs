//! The parameters of both peers' `dispatcher`.

use super::super::Peer;
use super::super::draft::Source;
use super::super::syntax::Parameter;
use super::super::write::list;
use super::{Found, OFFSET, Settings};

/// Names of variables that the modules keep their lists in.
const OWN_VARIABLES: &[&str] = &[
    "attrs_avp",
    "script_attrs_avp",
    "dst_avp",
    "grp_avp",
    "cnt_avp",
    "sock_avp",
    "setid_pvar",
    "dstid_avp",
    "attrs_pvname",
    "setid_pvname",
    "xavp_dst",
    "xavp_dst_mode",
    "xavp_ctx",
    "xavp_ctx_mode",
    "force_dst",
];

impl Settings {
    pub(super) fn dispatcher(&mut self, found: &mut Found<'_, '_>) {
        match (found.peer, found.name()) {
            (_, "db_url") => {
                if let Some(url) = url(found, "[database]") {
                    self.database.url = Some(url);
                }
            }
            (_, "table_name") => {
                self.database.table = Some(found.value().to_owned());
                found.mapped(format!("[database] table = {:?}", found.value()));
            }
            (Peer::Kamailio, "list_file") => {
                self.database.url = Some(format!("list:{}", found.value()));
                found.mapped(format!("[database] url = \"list:{}\"", found.value()));
            }
            (Peer::OpenSips, "partition") => self.partition(found),
            (Peer::OpenSips, "persistent_state") => {
                let is_kept = found.number() != Some(0);
                self.database.persist_state = Some(is_kept);
                match is_kept {
                    true => found.mapped("[database] persist_state = \"opensips\": within a second, not each 30"),
                    false => found.mapped("nothing is written into the table, which is the default"),
                }
            }
            (_, name) if name.starts_with("ds_ping_") || name.starts_with("ds_prob") => self.pings(found),
            (Peer::Kamailio, "ds_inactive_threshold") | (Peer::OpenSips, "options_reply_codes") => self.pings(found),
            (Peer::OpenSips, "cluster_id") => {
                self.cluster.get_or_insert_default();
                found.mapped("[cluster]: each node tells what it sees, and merges it by the set's verdict");
            }
            (Peer::OpenSips, "cluster_sharing_tag") => {
                self.probe.is_shared = true;
                found.approximated(
                    "[set.probe] who = \"shared\": one node probes each server and another takes over when it goes; no tag says \
                     which",
                );
            }
            (Peer::OpenSips, "cluster_probing_mode") => {
                self.probe.is_shared = found.value() != "all";
                match found.value() {
                    "all" => found.mapped("every node probes, which is the default"),
                    "distributed" => found.mapped("[set.probe] who = \"shared\""),
                    _ => found.approximated("[set.probe] who = \"shared\": the nodes share the servers out, no tag says who probes"),
                }
            }
            (_, "fetch_freeswitch_stats" | "max_freeswitch_weight") => found.not_mappable(
                "no weight comes from FreeSWITCH: let an agent beside each server answer with its share ([set.agent])",
            ),
            (_, "ds_define_blacklist") => found.not_mappable(
                "there are no black lists: DNS names lead nobody to a server that is out; give [[listener]] deny for sources",
            ),
            (_, "hash_pvar" | "pvar_algo_pattern" | "algo_route") => {
                found.mapped("it belongs to an algorithm; what becomes of that is told where it is used");
            }
            (Peer::Kamailio, "flags") => match found.number() {
                Some(flags) if flags & 1 == 0 => found.mapped("failover is always there ([[set]] max_retries)"),
                _ => found.approximated("failover is always there; nothing is hashed, so the user part alone neither"),
            },
            (Peer::Kamailio, "use_default") => match found.number() {
                Some(0) => found.mapped("no server is a set's last resort, which is the default"),
                _ => found.not_mappable(
                    "the last row is no last resort: put it into a set of its own and name that as [set.capacity] overflow, or use \
                     algorithm = \"priority\"",
                ),
            },
            (Peer::Kamailio, name) if name.starts_with("ds_hash_") => match name {
                "ds_hash_expire" | "ds_hash_initexpire" => found.approximated(
                    "the load is the number of live sessions, which end by BYE, timers and pings; [set.session] max_duration bounds them",
                ),
                _ => found.mapped("the load is the number of live sessions: there is no second table to size or to clean"),
            },
            (Peer::Kamailio, name) if name.starts_with("ds_dns_") => {
                found.mapped("names are looked up by their TTL, and each address is a destination of its own ([dns])");
            }
            (Peer::Kamailio, "ds_default_socket" | "ds_default_sockname") => found.approximated(
                "each request leaves by the [[listener]] that reaches the server; a row's own socket attribute goes first",
            ),
            (Peer::Kamailio, "outbound_proxy") => {
                found.not_mappable("servers are reached directly: give the proxy's address as destination");
            }
            (Peer::Kamailio, "event_callback" | "event_callback_mode") => {
                found.not_mappable("no script is run: watch the log, tandem_destination_* metrics or GET /sets");
            }
            (Peer::Kamailio, "ds_db_extra_attrs") => {
                found.not_mappable("attrs is read as it stands: put these columns into it, by a view if need be");
            }
            (
                Peer::Kamailio,
                "reload_delta" | "ds_timer_mode" | "ds_load_mode" | "ds_attrs_none" | "ds_retain_latency_stats"
                | "ds_latency_estimator_alpha",
            ) => found.mapped("nothing has to be set: Tandem does this its own way"),
            (_, name) if OWN_VARIABLES.contains(&name) => {
                found.mapped("nothing has to be set: Tandem itself keeps whom a call may be tried at next");
            }
            (_, name) if name.ends_with("_col") => {
                let column = name.trim_end_matches("_col").to_owned();
                found.mapped(format!("[database] columns = {{ {column} = {:?} }}", found.value()));
                self.database.columns.insert(column, found.value().to_owned());
            }
            _ => found.not_mappable("no such parameter is known: look up what it does, and for its like in config/tandem.toml"),
        }
    }

    fn pings(&mut self, found: &mut Found<'_, '_>) {
        let of_set = |key: &str, value: &str| format!("[set.probe] {key} = {value}");
        match found.name() {
            "ds_ping_interval" => match found.number_or_told() {
                Some(0) => found.mapped("no [set.probe]: nobody is probed"),
                Some(seconds) => {
                    let seconds = seconds.min(86_400);
                    self.probe.interval = seconds;
                    found.mapped(
                        of_set("interval", &format!("\"{seconds}s\", and down_interval"))
                            + "; probes are spread over it",
                    );
                }
                None => {}
            },
            "ds_ping_method" => {
                self.probe.method = Some(found.value().to_owned());
                found.mapped(of_set("method", &format!("{:?}", found.value())));
            }
            "ds_ping_from" => {
                self.probe.from = Some(found.value().to_owned());
                found.mapped(of_set("from", &format!("{:?}", found.value())));
            }
            "ds_ping_maxfwd" => {
                self.probe.max_forwards = found.number_or_told().and_then(|number| number.try_into().ok());
                if let Some(number) = self.probe.max_forwards {
                    found.mapped(of_set("max_forwards", &number.to_string()));
                }
            }
            "ds_probing_sock" | "ds_ping_socket" => {
                self.probe.socket = Some(found.value().to_owned());
                found.mapped(of_set("socket", &format!("{:?}", found.value())));
            }
            "ds_probing_threshold" | "ds_probing_threshhold" => {
                if let Some(number) = found.number_or_told() {
                    self.probe.fall = number.clamp(1, 100) as u32;
                    found.mapped(of_set("fall", &self.probe.fall.to_string()));
                }
            }
            "ds_inactive_threshold" => {
                if let Some(number) = found.number_or_told() {
                    self.probe.rise = number.clamp(1, 100) as u32;
                    found.mapped(of_set("rise", &self.probe.rise.to_string()));
                }
            }
            "ds_probing_mode" => {
                self.probe.only_when_down = matches!(found.number(), Some(0 | 2));
                match (found.peer, found.number()) {
                    (_, Some(0)) => found.mapped(of_set("when", "\"down\": those that calls have found down")),
                    (_, Some(1)) => found.mapped(of_set("when", "\"always\", the default")),
                    (Peer::Kamailio, Some(2)) => found.mapped(of_set("when", "\"down\"")),
                    (Peer::Kamailio, Some(3)) => found.approximated(of_set(
                        "when",
                        "\"always\": rows have no flag for it; give those that are not to be probed [[set.destination]] with probe = \
                         { enabled = false }",
                    )),
                    _ => found.not_mappable("it is no known mode: give [set.probe] when by hand"),
                }
            }
            "ds_probing_list" => {
                let sets: Option<Vec<u32>> =
                    found.value().split([',', ';']).map(|set| set.trim().parse().ok()).collect();
                match sets {
                    Some(sets) => {
                        found.mapped(format!("[set.probe] only in the sets {}", found.value()));
                        self.probing_list = Some(sets);
                    }
                    None => found.not_mappable("it is no list of sets: give [set.probe] to those that are meant"),
                }
            }
            "options_reply_codes" => {
                let codes = codes(found.value());
                found.mapped(of_set("accept", &list(&codes)));
                self.probe.accept = codes;
            }
            "ds_ping_reply_codes" => {
                let code = |text: &str| match text.trim().split_once('=')? {
                    ("class", class) => Some(format!("{class}xx")),
                    ("code", code) => Some(code.to_owned()),
                    _ => None,
                };
                let codes: Vec<String> =
                    found.value().split(';').filter_map(code).filter(|code| !code.starts_with('2')).collect();
                found.mapped(of_set("accept", &list(&codes)) + ", and any 2xx");
                self.probe.accept = codes;
            }
            "ds_ping_fr_timer" | "ds_ping_fr_timeout" => match found.number_or_told() {
                Some(0) => found.approximated("the default, timeout = \"2s\": Tandem does not take that of calls"),
                Some(milliseconds) => {
                    self.probe.timeout = Some(format!("{}ms", milliseconds.max(100)));
                    found.mapped(of_set("timeout", &format!("\"{}ms\"", milliseconds.max(100))));
                }
                None => {}
            },
            "ds_ping_latency_stats" => found.mapped("latency is always measured (tandem show, /metrics)"),
            _ => found
                .not_mappable("no such parameter is known: look up what it does, and for its like under [set.probe]"),
        }
    }

    /// `"name: db_url=...; table_name=...; ..."`, or `"default: other"`.
    fn partition(&mut self, found: &mut Found<'_, '_>) {
        let text = found.value().to_owned();
        let Some((name, keys)) = text.split_once(':') else {
            return found.not_mappable("it has no name before a colon: give [[partition]] by hand");
        };
        let name = name.trim().to_owned();
        if !keys.contains('=') {
            return match name == "default" && self.default_partition.is_some() {
                true => found.mapped(format!("[database] is the partition {}", keys.trim())),
                false => {
                    found.not_mappable("there is no such partition: give its rows as [database], or as a [[partition]]")
                }
            };
        }
        let mut source = Source { name: name.clone(), ..Source::default() };
        let (mut left, mut unknown) = (Vec::new(), Vec::new());
        for (key, value) in keys.split(';').filter_map(|pair| pair.split_once('=')) {
            let (key, value) = (key.trim(), value.trim().to_owned());
            match key {
                "db_url" => source.url = Some(value),
                "table_name" => source.table = Some(value),
                "persistent_state" => source.persist_state = Some(value != "0"),
                "ping_from" | "ping_method" | "ping_sock" => left.push(key.to_owned()),
                _ if OWN_VARIABLES.contains(&key) => {}
                _ => unknown.push(key.to_owned()),
            }
        }
        if !unknown.is_empty() {
            found.not_mappable(format!("{} is not known: look up what it does", unknown.join(", ")));
        }
        let spoken = source.url.as_deref().is_none_or(is_spoken);
        if source.url.is_none() {
            source.url = self.database.url.clone().or_else(|| self.default_url.clone());
        }
        let is_default = name == self.default_partition.as_deref().unwrap_or("default");
        let to = match (spoken, is_default) {
            (false, _) => {
                return found.not_mappable(
                    "its database is of no kind that Tandem reads: move the rows to MySQL, PostgreSQL or SQLite, and give [[partition]]",
                );
            }
            (true, true) => "[database]: it is the default one".to_owned(),
            (true, false) => {
                let offset = (self.partitions.len() as u32 + 1) * OFFSET;
                format!("[[partition]] name = {name:?}: its set N is {offset} + N")
            }
        };
        match left.is_empty() {
            true => found.mapped(to),
            false => found.approximated(format!("{to}; give {} in [set.probe] of its sets", left.join(", "))),
        }
        match is_default {
            true => {
                let Source { columns, persist_state, table, .. } = std::mem::take(&mut self.database);
                let persist_state = source.persist_state.or(persist_state);
                let table = source.table.take().or(table);
                self.database = Source { name: String::new(), columns, persist_state, table, ..source };
            }
            false => self.partitions.push(source),
        }
    }
}

/// Which partition `"default: name"` names, if there is one of that name.
pub(super) fn default_partition(peer: Peer, parameters: &[Parameter]) -> Option<String> {
    let of = |parameter: &Parameter| match parameter.name.as_str() {
        "partition" if peer == Peer::OpenSips && parameter.module == "dispatcher" => {
            parameter.value.split_once(':').map(|(name, keys)| (name.trim().to_owned(), keys.trim().to_owned()))
        }
        _ => None,
    };
    let all: Vec<_> = parameters.iter().filter_map(of).collect();
    let (_, alias) = all.iter().find(|(name, keys)| name == "default" && !keys.contains('='))?;
    all.iter().any(|(name, keys)| name == alias && keys.contains('=')).then(|| alias.clone())
}

/// Codes with commas; a 2xx is good anyway.
pub(super) fn codes(text: &str) -> Vec<String> {
    let code = |code: &&str| code.len() == 3 && ["3", "4", "5", "6"].iter().any(|class| code.starts_with(class));
    text.split(',').map(str::trim).filter(code).map(str::to_owned).collect()
}

/// The URL, if Tandem speaks to such a database; else that is told.
pub(super) fn url(found: &mut Found<'_, '_>, table: &str) -> Option<String> {
    let url = found.value().to_owned();
    match is_spoken(&url) {
        true => {
            found.mapped(format!("{table} url, as it is"));
            Some(url)
        }
        false => {
            found.not_mappable("Tandem reads MySQL, MariaDB, PostgreSQL and SQLite: move the rows there, and give url");
            None
        }
    }
}

fn is_spoken(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    ["mysql", "mariadb", "postgres", "postgresql", "sqlite"].contains(&scheme.as_str())
}
