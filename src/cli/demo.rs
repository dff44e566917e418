//! `tandem demo`: the proxy with a database of its own, three stand-in servers and a caller, in one process; one server is
//! taken out of service, goes away and comes back while calls go on.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Failure, block_on, calls, duration, rate, term};
use crate::config::Config;
use crate::edge::http::ReloadOrder;
use crate::engine::Snapshot;
use crate::engine::flow::Transport;
use crate::lab::caller::run;
use crate::lab::{Behaviour, Caller, CallerConfig, MrcpServer, Report};
use crate::server::Node;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(500);
/// The width of the longest bar.
const BAR: usize = 40;
const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const CONFIG: &str = r#"
state_dir = "state"
[[listener]]
bind = "udp:127.0.0.1:0"
[database]
url = "sqlite:demo.db"
[http]
listen = "127.0.0.1:0"
[[set]]
id = 19
name = "tts"
algorithm = "round_robin"
[[rule]]
name = "tts"
method = ["INVITE", "OPTIONS"]
user_agent = "OPENSIPS_TTS_MRCP_CLIENT"
set = 19
"#;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long to make calls.
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "20s")]
    duration: Duration,
    /// Calls a second.
    #[arg(long, value_name = "N", value_parser = rate, allow_negative_numbers = true, default_value = "25")]
    rate: f64,
    /// How long each call lasts.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    hold: Duration,
    /// Print the report as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let folder = Folder::new()?;
    block_on(play(args, &folder.0))
}

async fn play(args: &Args, folder: &Path) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(MrcpServer::start(LOCALHOST, Behaviour::default()).await.map_err(Failure::new)?);
    }
    let config = Config::parse("demo", CONFIG, folder).map_err(Failure::new)?;
    let node = Node::start(&config).await.map_err(Failure::new)?;
    node.store().execute(&rows(&servers)).await.map_err(Failure::new)?;
    reload(&node).await?;

    let proxy = node.server().addresses()[0];
    let told = |text: &str| {
        if !args.json {
            term::line(text);
        }
    };
    told(&format!("proxy at udp {proxy}, set 19 of three servers, {} calls/s for {:?}", args.rate, args.duration));
    if let Some(http) = node.http() {
        told(&format!("metrics at http://{http}/metrics while this runs"));
    }
    let caller = Caller::new();
    let config = CallerConfig {
        proxy,
        transport: Transport::Udp,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: "OPENSIPS_TTS_MRCP_CLIENT".into(),
        rate: args.rate,
        calls: None,
        duration: Some(args.duration),
        hold: args.hold,
        ..CallerConfig::default()
    };
    let show = Show { node: &node, servers: &servers, caller: &caller, length: args.duration, silent: args.json };
    let (report, shown) = tokio::join!(run(config, &caller), show.run());
    shown?;
    let report: Report = report.map_err(|error| Failure::new(format!("can't call {proxy}: {error}")))?;
    told("");
    calls::print(&report, args.json);
    node.stop().await;
    Ok(())
}

/// The article's rows, with the servers' ports.
fn rows(servers: &[MrcpServer]) -> String {
    let mut sql = String::from(
        "INSERT INTO `dispatcher` (`setid`, `destination`, `state`, `weight`, `priority`, `attrs`, `description`) VALUES",
    );
    for (index, server) in servers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let port = server.address().port();
        let row = format!("{comma} (19, 'sip:{}', 0, 1, 100, 'pstn=100', 'TTS_{port}')", server.address());
        sql.push_str(&row);
    }
    sql
}

async fn reload(node: &Node) -> Result<(), Failure> {
    node.reload(ReloadOrder::of("demo")).await.map(drop).map_err(|failed| Failure::new(failed.error))
}

/// What happens to the second server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// All three serve.
    AllServe,
    /// The operator has set `state` to 1: its calls end, no new one comes.
    Leaving,
    /// It is away.
    Away,
    /// It is back, and `state` is 0 again.
    Back,
}

impl Act {
    fn title(self) -> &'static str {
        match self {
            Act::AllServe => "all three serve",
            Act::Leaving => "the second is switched off in the table: its calls run out",
            Act::Away => "the second is away",
            Act::Back => "the second is back",
        }
    }
}

struct Show<'s> {
    node: &'s Node,
    servers: &'s [MrcpServer],
    caller: &'s Caller,
    length: Duration,
    /// No picture is drawn.
    silent: bool,
}

impl Show<'_> {
    /// Plays until the calls are over.
    async fn run(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        let mut act = Act::AllServe;
        let mut lines = 0;
        loop {
            tokio::time::sleep(FRAME).await;
            let mut snapshot = self.node.server().snapshot().await.map_err(Failure::new)?;
            let next = self.next_act(act, began.elapsed(), &snapshot);
            if next != act {
                self.enter(next).await?;
                act = next;
                // The picture is that of the act which it names.
                snapshot = self.node.server().snapshot().await.map_err(Failure::new)?;
            }
            let live = self.caller.live();
            let over = began.elapsed() >= self.length && live.running == 0;
            let picture = picture(act, began.elapsed(), &snapshot, live.running);
            if self.silent {
                // The report tells it all.
            } else if terminal {
                let up = if lines > 0 { format!("\x1b[{lines}A\x1b[J") } else { String::new() };
                lines = picture.lines().count();
                term::write(&format!("{up}{picture}"));
            } else if lines == 0
                || over
                || began.elapsed().as_millis() / 1000 != (began.elapsed() - FRAME).as_millis() / 1000
            {
                lines = 1;
                term::write(&picture);
            }
            if over {
                return Ok(());
            }
        }
    }

    fn next_act(&self, act: Act, elapsed: Duration, snapshot: &Snapshot) -> Act {
        let sessions =
            snapshot.sets.first().and_then(|set| set.destinations.get(1)).map_or(0, |second| second.sessions);
        match act {
            Act::AllServe if elapsed * 3 >= self.length => Act::Leaving,
            Act::Leaving if sessions == 0 => Act::Away,
            Act::Leaving | Act::Away if elapsed * 3 >= self.length * 2 => Act::Back,
            Act::AllServe | Act::Leaving | Act::Away | Act::Back => act,
        }
    }

    async fn enter(&self, act: Act) -> Result<(), Failure> {
        let second = &self.servers[1];
        match act {
            Act::AllServe => {}
            Act::Leaving => self.set_state(1).await?,
            Act::Away => second.set(Behaviour { silent: true, ..Behaviour::default() }),
            Act::Back => {
                second.set(Behaviour::default());
                self.set_state(0).await?;
            }
        }
        Ok(())
    }

    async fn set_state(&self, state: u8) -> Result<(), Failure> {
        let sql =
            format!("UPDATE dispatcher SET state = {state} WHERE destination = 'sip:{}'", self.servers[1].address());
        self.node.store().execute(&sql).await.map_err(Failure::new)?;
        reload(self.node).await
    }
}

/// Who gets what.
fn picture(act: Act, elapsed: Duration, snapshot: &Snapshot, running: u64) -> String {
    let mut text = format!("{:5.1} s  {}; {running} calls up\n", elapsed.as_secs_f64(), act.title());
    let destinations = snapshot.sets.iter().flat_map(|set| &set.destinations);
    let most = destinations.clone().map(|one| one.sessions).max().unwrap_or(0).max(1);
    for one in destinations {
        let bar = "#".repeat((one.sessions as usize * BAR).div_ceil(most as usize));
        let state = if one.fitness.is_fit() { "fit" } else { "off" };
        let (uri, sessions, selections) = (&one.uri, one.sessions, one.selections);
        writeln!(text, "  {uri:<22} {state}  {sessions:>4} now {selections:>6} in all  {bar}")
            .expect("writing to memory");
    }
    text
}

/// A folder that goes away with the demo.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|error| Failure::new(format!("{}: can't make it: {error}", path.display())))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
