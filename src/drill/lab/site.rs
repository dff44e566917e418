//! The lab's commands: what makes its network, starts and ends what runs in it, and what goes wrong there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{self, IN_DATABASE};
use super::{DATABASE_IP, HOSTS, SWITCH};
use crate::drill::kind::Kind;
use crate::drill::site::{Act, Caller, Node, Site};

/// The servers, and how long each takes to answer: calls are being set up whenever something goes wrong.
pub(super) const SERVERS: [(&str, &str); 3] = [("10.0.0.21", "0ms"), ("10.0.0.22", "0ms"), ("10.0.0.23", "300ms")];

/// UDP packets in a hundred that are lost on their way to each host.
const LOSS: u32 = 5;

/// Seconds for which the database hangs before it dies: each node has looked for new rows, and has given up.
const HANGS: u32 = 12;

/// The callers: name, part of the rate, options of `tandem calls`.
const CALLERS: [(&str, f64, &str); 4] = [
    ("10.0.0.101 by UDP", 45.0, "--to 10.0.0.101:8060"),
    ("10.0.0.102 by UDP", 45.0, "--to 10.0.0.102:8060"),
    ("10.0.0.101 by UDP, believes ICMP", 5.0, "--to 10.0.0.101:8060 --give-up-on-icmp"),
    (BY_TCP, 5.0, "--to 10.0.0.101:8060 --transport tcp"),
];
/// The nodes, each with its address that moves.
const A: (&str, &str) = ("a", "10.0.0.101");
const B: (&str, &str) = ("b", "10.0.0.102");
const BY_TCP: &str = "10.0.0.101 by TCP";

/// Where the lab is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// What the names of its namespaces begin with.
    pub(super) name: String,
    /// Where its files are.
    pub(super) folder: PathBuf,
    /// The program.
    pub(super) program: PathBuf,
    /// The program that nodes begin with: of another version, where that is what it is about.
    pub(super) former: PathBuf,
    /// Whether the nodes read their rows from one database, instead of a file of their own each.
    pub(super) has_database: bool,
}

impl Place {
    /// The namespace of a host.
    pub(super) fn space(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// All namespaces.
    pub(super) fn spaces(&self) -> Vec<String> {
        HOSTS.iter().map(|(host, _)| *host).chain([SWITCH]).map(|host| self.space(host)).collect()
    }

    fn file(&self, name: &str) -> String {
        quoted(&self.folder.join(name))
    }

    /// Makes the hosts and the bridge between them.
    pub(super) fn network(&self) -> Vec<String> {
        let switch = self.space(SWITCH);
        let mut all: Vec<_> = self.spaces().iter().map(|space| format!("ip netns add {space}")).collect();
        all.push(format!("ip -n {switch} link add bridge type bridge && ip -n {switch} link set bridge up"));
        for (host, addresses) in HOSTS {
            let space = self.space(host);
            all.push(format!("ip -n {switch} link add name port-{host} type veth peer name eth0 netns {space}"));
            all.push(format!("ip -n {switch} link set port-{host} master bridge up && ip -n {space} link set eth0 up"));
            all.push(format!("ip -n {space} link set lo up"));
            all.extend(addresses.iter().map(|ip| format!("ip -n {space} address add {ip}/24 dev eth0")));
        }
        let rules = self.file("tandem-vip.nft");
        all.extend(["a", "b"].map(|node| format!("ip netns exec {} nft -f {rules}", self.space(node))));
        all
    }

    /// Starts a program in a host; its process id is in `NAME.pid`, what it says in `NAME.log`.
    fn start(&self, host: &str, name: &str, program: &str) -> String {
        let (pid, log) = (self.file(&format!("{name}.pid")), self.file(&format!("{name}.log")));
        let script = quoted(Path::new(&format!("echo $$ >{pid}; exec {program}")));
        format!("ip netns exec {} sh -c {script} >>{log} 2>&1 </dev/null &", self.space(host))
    }

    fn signal(&self, name: &str, signal: &str) -> String {
        format!("kill -{signal} $(cat {})", self.file(&format!("{name}.pid")))
    }

    /// Ends a program and waits until it is gone.
    fn stop(&self, name: &str) -> String {
        // Who is dead and not buried is gone.
        let lives =
            format!("grep -q '^State:.[^Z]' /proc/$(cat {})/status 2>/dev/null", self.file(&format!("{name}.pid")));
        format!("{}; {}", self.signal(name, "TERM"), until(&format!("! {lives}"), 50))
    }

    fn server(&self, ip: &str) -> String {
        let delay = SERVERS.iter().find(|(one, _)| *one == ip).map_or("0ms", |(_, delay)| *delay);
        let program = format!("{} mrcp-server --listen {ip}:7010 --slow {delay}", quoted(&self.program));
        let log = self.file(&format!("{ip}.log"));
        // One line for each start, once its port is open.
        let lines = format!("$(grep -c 'stand-in at' {log} 2>/dev/null)");
        let said = until(&format!("[ \"{lines}\" != \"$before\" ]"), 20);
        format!("before={lines}; {} {said}", self.start("servers", ip, &program))
    }

    /// Starts the servers.
    pub(super) fn servers(&self) -> Vec<String> {
        SERVERS.iter().map(|(ip, _)| self.server(ip)).collect()
    }

    /// Makes the database, if there is one, and starts it.
    pub(super) fn make_database(&self) -> Vec<String> {
        let data = self.file("data");
        let make = format!("mariadb-install-db --no-defaults --user=root --skip-test-db --datadir={data} >/dev/null");
        if self.has_database { vec![make, self.start_database()] } else { Vec::new() }
    }

    /// Starts the database (again) and waits until it answers. It runs as root, who alone sees into the lab's folder.
    fn start_database(&self) -> String {
        let program = format!(
            "mariadbd --no-defaults --user=root --datadir={} --socket=socket --pid-file=pid --init-file={} \
             --bind-address={DATABASE_IP} --skip-name-resolve --innodb-buffer-pool-size=16M",
            self.file("data"),
            self.file("database.sql")
        );
        let answers = format!("{} >/dev/null 2>&1", self.sql("SELECT id FROM opensips.dispatcher LIMIT 1"));
        let (start, log) = (self.start("database", "database", &program), self.file("database.log"));
        format!("{start} {} || {{ tail -n 3 {log}; exit 1; }}", until(&answers, 60))
    }

    /// Ends it as a power cut would, whatever state it is in.
    fn kill_database(&self) -> String {
        format!("ip netns pids {} | xargs -r kill -KILL", self.space("database"))
    }

    /// Runs statements in the database.
    fn sql(&self, statements: &str) -> String {
        let client = format!("mariadb --no-defaults --skip-ssl --host={DATABASE_IP} --user=operator");
        format!("ip netns exec {} {client} --execute={}", self.space("database"), quoted(Path::new(statements)))
    }

    /// A change of the rows that changes nothing for calls.
    fn change_rows(&self) -> String {
        self.sql("UPDATE opensips.dispatcher SET description = 'changed'")
    }

    /// Starts a node with a program and waits until it is ready.
    pub(super) fn start_node(&self, node: &str, program: &Path) -> String {
        let (program, config) = (quoted(program), self.file(&format!("{node}/tandem.toml")));
        let start = self.start(node, &format!("tandem-{node}"), &format!("{program} run --config {config}"));
        let ready = format!("ip netns exec {} curl -fs -o /dev/null http://127.0.0.1:9060/ready", self.space(node));
        let log = self.file(&format!("tandem-{node}.log"));
        format!("{start} {} || {{ tail -n 3 {log}; exit 1; }}", until(&ready, 20))
    }

    /// Starts a node's keepalived.
    pub(super) fn start_keepalived(&self, node: &str) -> String {
        let file = |name: &str| self.file(&format!("{node}/{name}.pid"));
        let program = format!(
            "keepalived -n -l -f /etc/keepalived/keepalived.conf -p {} -r {} -c {}",
            file("parent"),
            file("vrrp"),
            file("checkers")
        );
        self.start(node, &format!("keepalived-{node}"), &program)
    }

    /// Asks a node to leave, starts it anew with a program and waits until it has its address.
    fn restart_node(&self, (node, vip): (&str, &str), program: &Path) -> String {
        let has_vip = format!("ip -n {} address show dev eth0 | grep -q {vip}/", self.space(node));
        let (stop, start) = (self.stop(&format!("tandem-{node}")), self.start_node(node, program));
        format!("{{ {stop}; }} && {{ {start}; }} && {{ {}; }}", until(&has_vip, 20))
    }

    /// Brings both nodes to a program, b first; while they are of two, each obeys what the other is told.
    fn change_program(&self, program: &Path) -> Vec<String> {
        vec![
            self.restart_node(B, program),
            self.tell("a", "drain", "b"),
            self.tell("b", "ready", "a"),
            self.restart_node(A, program),
        ]
    }

    /// Gives one node an order and waits until the other one tells of it.
    fn tell(&self, node: &str, order: &str, other: &str) -> String {
        let (last, _) = SERVERS[SERVERS.len() - 1];
        let set = format!("{} set 19 {last}:7010 {order} --by drill --reason upgrade --force", quoted(&self.program));
        let give = format!("ip netns exec {} {set} --http 127.0.0.1:9060", self.space(node));
        let show = format!("curl -fs 'http://127.0.0.1:9060/sets/19/destination?uri=sip:{last}:7010'");
        let obeys = format!("ip netns exec {} {show} | grep -q '\"order\":\"{order}\"'", self.space(other));
        let unheard = format!("echo node {other} does not obey the order that {node} was given >&2");
        format!("{give} && {} || {{ {unheard}; exit 1; }}", until(&obeys, 5))
    }

    /// Drops what a host receives and these conditions name. Not what it sends: the sender would be told of that.
    fn filter(&self, host: &str, received: &str) -> String {
        let chain = format!("chain input {{ type filter hook input priority 0; {received} drop; }};");
        format!("ip netns exec {} nft 'table inet tandem_drill {{ {chain} }}'", self.space(host))
    }

    fn unfilter(&self, host: &str) -> String {
        format!("ip netns exec {} nft delete table inet tandem_drill", self.space(host))
    }

    fn acts(&self) -> BTreeMap<Kind, Act> {
        Kind::ALL.into_iter().map(|kind| (kind, self.act(kind))).collect()
    }

    fn act(&self, kind: Kind) -> Act {
        let (first, _) = SERVERS[0];
        let uri = |ip: &str| format!("sip:{ip}:7010");
        let all = || SERVERS.iter().map(|(ip, _)| *ip);
        let act = |act: Vec<String>, undo: Vec<String>| Act { act, undo, ends: Vec::new() };
        let filtered = |all: &[(&str, &str)]| {
            let filters = all.iter().map(|(host, received)| self.filter(host, received)).collect();
            act(filters, all.iter().map(|(host, _)| self.unfilter(host)).collect())
        };
        match kind {
            Kind::KillDestination => {
                Act { ends: vec![uri(first)], ..act(vec![self.signal(first, "KILL")], vec![self.server(first)]) }
            }
            Kind::HangDestination => act(vec![self.signal(first, "STOP")], vec![self.signal(first, "CONT")]),
            Kind::KillNode => act(vec![self.signal("tandem-a", "KILL")], vec![self.start_node("a", &self.program)]),
            Kind::MoveVip => act(vec![self.stop("keepalived-a")], vec![self.start_keepalived("a")]),
            Kind::CutGossip => filtered(&[("a", "udp dport 7946"), ("b", "udp dport 7946")]),
            Kind::CutDestination => filtered(&[
                ("a", &format!("ip saddr {first}")),
                ("servers", &format!("ip saddr {{ 10.0.0.11, 10.0.0.101 }} ip daddr {first}")),
            ]),
            Kind::LosePackets => {
                let some = format!("meta l4proto udp numgen random mod 100 < {LOSS}");
                filtered(&HOSTS.map(|(host, _)| (host, some.as_str())))
            }
            Kind::AllServersDead => Act {
                ends: all().map(uri).collect(),
                ..act(all().map(|ip| self.signal(ip, "KILL")).collect(), self.servers())
            },
            Kind::RestartNodes => act([A, B].map(|node| self.restart_node(node, &self.program)).into(), Vec::new()),
            Kind::UpgradeNodes => act(self.change_program(&self.program), self.change_program(&self.former)),
            Kind::StopDatabase => act(
                vec![self.signal("database", "STOP"), format!("sleep {HANGS}"), self.kill_database()],
                vec![format!("{}; {}", self.kill_database(), self.start_database()), self.change_rows()],
            ),
            Kind::EmptyTable => act(
                vec![self.sql("DELETE FROM opensips.dispatcher")],
                vec![self.sql(&files::rows(IN_DATABASE)), self.change_rows()],
            ),
        }
    }

    /// What a drill knows of the lab.
    pub(super) fn site(&self) -> Site {
        let asked = format!(
            "curl -fs --max-time 1 {}",
            ["ready", "store", "sets", "node"].map(|path| format!("http://127.0.0.1:9060/{path}")).join(" ")
        );
        let node =
            |node: &str| Node { name: node.to_owned(), state: format!("ip netns exec {} {asked}", self.space(node)) };
        let calls =
            format!("ip netns exec {} {} calls --json --timeline", self.space("callers"), quoted(&self.program));
        let caller = |(name, share, options): &(&str, f64, &str)| Caller {
            name: (*name).to_owned(),
            calls: format!("{calls} --from 10.0.0.30 {options} --rate $RATE --hold $HOLD --for $TIME"),
            share: *share,
            resends: *name != BY_TCP,
        };
        Site {
            name: "the lab".to_owned(),
            nodes: ["a", "b"].map(node).into(),
            callers: CALLERS.iter().map(caller).collect(),
            acts: self.acts(),
        }
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// What a keepalived says of a script that it will not run.
    pub(super) fn unchecked(&self) -> Option<String> {
        let said =
            |name| self.log(name).lines().find(|line| line.contains("Disabling track script")).map(str::to_owned);
        ["keepalived-a", "keepalived-b"].into_iter().find_map(said)
    }

    /// The last line of each node's log.
    pub(super) fn last_words(&self) -> String {
        let last = |name: &str| format!("{name}: {}", self.log(name).lines().last().unwrap_or("nothing"));
        ["tandem-a", "tandem-b", "keepalived-a", "keepalived-b"].map(last).join("; ")
    }
}

/// Waits until a command succeeds, so many seconds at most.
fn until(command: &str, seconds: u32) -> String {
    format!("(i=0; until {command}; do i=$((i+1)); [ $i -lt {} ] || exit 1; sleep 0.05; done)", seconds * 20)
}

/// A word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_act_and_names_are_the_lab_s_own() {
        let (folder, program) = (PathBuf::from("/tmp/it's"), PathBuf::from("/usr/bin/tandem"));
        let former = PathBuf::from("/opt/tandem-0.9/tandem");
        let place = Place { name: "tandem-drill-7".to_owned(), folder, program, former, has_database: true };
        let site = place.site();
        assert_eq!(site.callers.iter().map(|caller| caller.share).sum::<f64>(), 100.0);
        for kind in Kind::ALL {
            let Act { act, undo, .. } = &site.acts[&kind];
            assert!(!act.is_empty() && undo.is_empty() == kind.leaves_nothing(), "{kind:?}");
        }
        let Act { act, undo, .. } = &site.acts[&Kind::UpgradeNodes];
        let runs = |all: &[String], program: &str| {
            all.iter().filter(|one| one.contains(&format!(r"{program}'\'' run"))).count()
        };
        assert_eq!(
            [act, undo].map(|all| [runs(all, "/usr/bin/tandem"), runs(all, "/tandem-0.9/tandem")]),
            [[2, 0], [0, 2]]
        );
        assert!(place.spaces().iter().all(|space| space.starts_with("tandem-drill-7-")));
        assert!(
            place.make_database().len() == 2
                && Place { has_database: false, ..place.clone() }.make_database().is_empty()
        );
        assert!(place.signal("x", "KILL").contains(r"'/tmp/it'\''s/x.pid'"));
    }
}
