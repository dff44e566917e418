//! Modules beside the dispatcher: `load_balancer`, `dialog`, `clusterer`, `tm`, and what is only loaded.

use super::super::Peer;
use super::super::report::{At, Report};
use super::super::write::list;
use super::dispatcher::{codes, url};
use super::{Found, Settings};

/// Modules whose work a stateful proxy does anyway.
const ITSELF: &[&str] = &[
    "cfg_rpc",
    "cfgutils",
    "corex",
    "ipops",
    "kex",
    "maxfwd",
    "msgfilter",
    "pike",
    "proto_tcp",
    "proto_udp",
    "pv",
    "ratelimit",
    "rr",
    "sanity",
    "signaling",
    "sipmsgops",
    "siputils",
    "sl",
    "stun",
    "textops",
    "textopsx",
    "tm",
    "tmx",
    "uri",
    "xlog",
    "userblocklist",
    "path",
    "sdpops",
    "avpops",
    "mathops",
    "tcpops",
    "counters",
    "debugger",
    "tmrec",
    "diversion",
];

pub(super) fn does_it_itself(module: &str) -> bool {
    ITSELF.contains(&module)
}

/// Tells what becomes of a module that is loaded.
pub(super) fn module(name: &str, at: At, report: &mut Report) {
    let found = format!("loadmodule {name}");
    match name {
        "dispatcher" => report.mapped(at, found, "[database], [[set]] and [[rule]]"),
        "load_balancer" => {
            report.mapped(at, found, "[database] with schema = \"load_balancer\", [[set]] and [set.capacity]")
        }
        "dialog" => report.mapped(at, found, "sessions are always known (tandem sessions, [set.session])"),
        "clusterer" | "proto_bin" => report.approximated(at, found, "[cluster]: a gossip of Tandem's own, by UDP"),
        "dmq" | "dmq_usrloc" => {
            report.approximated(at, found, "[cluster] shares health, orders and load; nothing else is shared")
        }
        "rr" => report.mapped(at, found, "Tandem writes Record-Route itself, in both directions"),
        "pike" | "ratelimit" | "pipelimit" => report.approximated(
            at,
            found,
            "[limits] and [set.capacity] max_cps bound what is served; [[listener]] allow and deny say from whom",
        ),
        "db_mysql" | "db_postgres" | "db_sqlite" => report.mapped(at, found, "[database] url names the database"),
        "db_text" => report.not_mappable(
            at,
            found,
            "text tables are not read: move the rows to SQLite, or into a dispatcher.list",
        ),
        "acc" | "acc_db" => {
            report.approximated(at, found, "[records]: a line for each session that is over, with its own fields")
        }
        "mi_fifo" | "mi_datagram" | "mi_http" | "mi_html" | "httpd" | "xhttp" | "jsonrpcs" | "ctl"
        | "event_routing" => {
            report.approximated(
                at,
                found,
                "the HTTP surface ([http]): tandem show, set and sessions, /sets and /reload",
            );
        }
        "prometheus" | "xhttp_prom" | "statistics" | "statsd" => {
            report.mapped(at, found, "/metrics of the HTTP surface")
        }
        "permissions" => {
            report.not_mappable(at, found, "sources stand in [[listener]] allow and deny, or in a rule's source")
        }
        "nathelper" | "rtpproxy" | "rtpengine" | "mediaproxy" | "rtp_relay" | "nat_traversal" => {
            report.not_mappable(
                at,
                found,
                "Tandem touches no media and pings no NAT: keep a proxy for callers behind one",
            );
        }
        "registrar" | "usrloc" | "auth" | "auth_db" | "domain" | "alias_db" | "presence" | "presence_xml" => {
            report.not_mappable(
                at,
                found,
                "Tandem keeps no users: keep a registrar where phones register, with Tandem behind it",
            );
        }
        "tls" | "proto_tls" | "tls_mgm" | "tls_openssl" | "tls_wolfssl" | "websocket" | "proto_ws" | "proto_wss" => {
            report.not_mappable(at, found, "Tandem speaks UDP and TCP: let a proxy before it end TLS and WebSocket");
        }
        _ if does_it_itself(name) => report.mapped(at, found, "Tandem does what it needs of this itself"),
        _ => report.not_mappable(
            at,
            found,
            "Tandem has nothing like it: if calls need it, keep it in a proxy before Tandem",
        ),
    }
}

/// The longest times that a configuration may have, in seconds.
const DAY: u64 = 86_400;
const MONTH: u64 = 31 * DAY;

impl Settings {
    pub(super) fn load_balancer(&mut self, found: &mut Found<'_, '_>) {
        let source = self.balanced.get_or_insert_default();
        source.schema = Some("load_balancer");
        match found.name() {
            "db_url" => {
                if let Some(url) = url(found, "[database] with schema = \"load_balancer\":") {
                    source.url = Some(url);
                }
            }
            "db_table" => {
                source.table = Some(found.value().to_owned());
                found.mapped(format!("table = {:?}", found.value()));
            }
            "group_id_column" | "dst_uri_column" | "resources_column" | "probe_mode_column" | "id_column" => {
                found.not_mappable("columns of load_balancer have their own names: rename it, or make a view");
            }
            "probing_interval" => match found.number_or_told() {
                Some(0) => found.mapped("no [set.probe]: nobody is probed"),
                Some(seconds) => {
                    let seconds = seconds.min(DAY);
                    self.balanced_probe.interval = seconds;
                    found.approximated(format!(
                        "[set.probe] interval = \"{seconds}s\" for all of the set: rows' probe_mode is not heeded; give those that are \
                         not to be probed [[set.destination]] with probe = {{ enabled = false }}"
                    ));
                }
                None => {}
            },
            "probing_method" => {
                self.balanced_probe.method = Some(found.value().to_owned());
                found.mapped(format!("[set.probe] method = {:?}", found.value()));
            }
            "probing_from" => {
                self.balanced_probe.from = Some(found.value().to_owned());
                found.mapped(format!("[set.probe] from = {:?}", found.value()));
            }
            "probing_reply_codes" => {
                let codes = codes(found.value());
                found.mapped(format!("[set.probe] accept = {}", list(&codes)));
                self.balanced_probe.accept = codes;
            }
            "probing_sock" => {
                self.balanced_probe.socket = Some(found.value().to_owned());
                found.mapped(format!("[set.probe] socket = {:?}", found.value()));
            }
            "lb_define_blacklist" => found.not_mappable("there are no black lists: give [[listener]] deny for sources"),
            "fetch_freeswitch_stats" | "initial_freeswitch_load" => found.not_mappable(
                "no load comes from FreeSWITCH: let an agent beside each server answer with maxconn ([set.agent])",
            ),
            "cluster_id" => {
                self.cluster.get_or_insert_default();
                found.mapped("[cluster]: limits hold for the sessions of all nodes together");
            }
            "cluster_sharing_tag" => {
                self.balanced_probe.is_shared = true;
                found.approximated("[set.probe] who = \"shared\": one node probes each server; no tag says which");
            }
            _ => found.not_mappable(
                "no such parameter is known: look up what it does, and for its like in config/tandem.toml",
            ),
        }
    }

    pub(super) fn dialog(&mut self, found: &mut Found<'_, '_>) {
        match (found.peer, found.name()) {
            (_, "default_timeout") => {
                self.dialog_timeout = found.number_or_told().map(|seconds| seconds.clamp(1, MONTH));
                if let Some(seconds) = self.dialog_timeout {
                    found.mapped(format!("[set.session] max_duration = \"{seconds}s\" of sets whose calls are made dialogs"));
                }
            }
            (Peer::OpenSips, "ping_interval" | "options_ping_interval" | "reinvite_ping_interval") => {
                self.dialog_ping = found.number_or_told().map(|seconds| seconds.clamp(1, DAY));
                if let Some(seconds) = self.dialog_ping {
                    found.mapped(format!("[set.session.ping] interval = \"{seconds}s\", where dialogs are pinged"));
                }
            }
            (Peer::Kamailio, "ka_interval") => {
                self.dialog_ping = found.number_or_told().map(|seconds| seconds.clamp(1, DAY));
                if let Some(seconds) = self.dialog_ping {
                    found.mapped(format!("[set.session.ping] interval = \"{seconds}s\", where dialogs are pinged"));
                }
            }
            (Peer::Kamailio, "ka_failed_limit") => {
                found.approximated("[set.session.ping] fall = 3 stands by itself: give the number where dialogs are pinged");
            }
            (_, "db_mode") if found.number() == Some(0) => found.mapped("no dialog is written into a database"),
            (_, "db_mode" | "db_url" | "table_name" | "db_update_period" | "db_flush_vals_profiles") => found.approximated(
                "no dialog is written into a database: what a node needs stands in each message, and another node adopts sessions",
            ),
            (_, "profiles_with_value" | "profiles_no_value") => {
                found.approximated("sessions are counted by set, server and resource (tandem show, /metrics), not by profiles");
            }
            (_, name) if name.contains("replication_cluster") || name == "enable_dmq" || name == "cluster_auto_sync" => {
                self.cluster.get_or_insert_default();
                found.approximated("[cluster]: the way home stands in Record-Route, so another node adopts a session at its next request");
            }
            (_, "timeout_avp" | "bye_on_timeout_flag" | "timeout_noreset" | "send_bye" | "default_bye_on_timeout") => {
                found.approximated("[set.session] max_duration and at_max_duration = \"bye\" hold for all sessions of a set");
            }
            _ => found.mapped("Tandem keeps sessions its own way: nothing has to be set"),
        }
    }

    pub(super) fn clusterer(&mut self, found: &mut Found<'_, '_>) {
        let is_bin = |text: &str| {
            let url = text.split(',').find_map(|pair| pair.trim().strip_prefix("url=").map(str::to_owned))?;
            let host = url.trim_start_matches("bin:").rsplit_once(':').map(|(host, _)| host.to_owned());
            Some(host.unwrap_or_else(|| url.trim_start_matches("bin:").to_owned()))
        };
        let cluster = self.cluster.get_or_insert_default();
        match found.name() {
            "my_node_id" => {
                let id = format!("node{}", found.value());
                found.mapped(format!("node_id = {id:?}"));
                self.node_id = Some(id);
            }
            "my_node_info" => match is_bin(found.value()) {
                Some(host) => {
                    cluster.bind = Some(format!("{host}:7946"));
                    found.approximated(format!("[cluster] bind = \"{host}:7946\", as a comment until the nodes' key is made"));
                }
                None => found.not_mappable("it has no url: give [cluster] bind"),
            },
            "neighbor_node_info" => match is_bin(found.value()) {
                Some(host) => {
                    found.approximated(format!("[cluster] seeds = [\"{host}:7946\"], as a comment until the nodes' key is made"));
                    cluster.seeds.push(format!("{host}:7946"));
                }
                None => found.not_mappable("it has no url: give [cluster] seeds"),
            },
            "db_mode" if found.number() == Some(0) => found.mapped("nodes stand in the configuration"),
            "db_mode" | "db_url" | "db_table" => {
                found.not_mappable("nodes are not read from a table: name each in [cluster] seeds");
            }
            "sharing_tag" => found.approximated(
                "no tag is handed over: netlink tells which addresses are here; give role = \"vip\" to the [[listener]] that \
                 keepalived moves, and see docs/pair.md",
            ),
            "ping_interval" | "ping_timeout" | "node_timeout" | "seed_fallback_interval" | "sync_timeout"
            | "sync_packet_size" | "dispatch_jobs" => {
                found.approximated("[cluster] interval and dead_after are shorter by default: a dead node is known after a second");
            }
            name if name.ends_with("_col") => found.not_mappable("nodes are not read from a table: name each in [cluster] seeds"),
            _ => found.not_mappable("no such parameter is known: look up what it does, and for its like under [cluster]"),
        }
    }

    pub(super) fn transactions(&mut self, found: &mut Found<'_, '_>) {
        // OpenSIPS counts in seconds, Kamailio in milliseconds.
        let unit = if found.peer == Peer::OpenSips { "s" } else { "ms" };
        match found.name() {
            "fr_timeout" | "fr_timer" => {
                if let Some(number) = found.number_or_told() {
                    let least = if unit == "s" { 1 } else { 100 };
                    let text = format!("{}{unit}", number.max(least));
                    found.mapped(format!("[[set]] first_response_timeout = {text:?}"));
                    self.first_response_timeout = Some(text);
                }
            }
            "fr_inv_timeout" | "fr_inv_timer" => {
                if let Some(number) = found.number_or_told() {
                    let least = if unit == "s" { 1 } else { 100 };
                    let text = format!("{}{unit}", number.max(least));
                    found.mapped(format!("[[set]] final_timeout = {text:?}"));
                    self.final_timeout = Some(text);
                }
            }
            _ => found.mapped("Tandem's transactions follow RFC 3261: nothing has to be set ([timing])"),
        }
    }
}
