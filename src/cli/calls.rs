//! `tandem calls`: calls at a rate, and how they went.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Failure, block_on, duration, rate, term};
use crate::lab::caller::run;
use crate::lab::{Caller, CallerConfig, Pings, Report};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The proxy, or a server itself.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8060")]
    to: SocketAddr,
    /// How to talk to it; by TCP all calls share one connection.
    #[arg(long, value_enum, default_value = "udp")]
    transport: super::Spoken,
    /// The address to call from.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The User-Agent that the proxy knows an MRCP client by.
    #[arg(long, value_name = "NAME", default_value = "OPENSIPS_TTS_MRCP_CLIENT")]
    user_agent: String,
    /// Calls a second.
    #[arg(long, value_name = "N", value_parser = rate, allow_negative_numbers = true, default_value = "10")]
    rate: f64,
    /// Stop after so many calls.
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// Stop after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How long each call lasts.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    hold: Duration,
    /// End all calls within the second that begins so long after the start, and not after --hold.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    hang_up_at: Option<Duration>,
    /// How to answer OPTIONS and UPDATE inside a call: by 200, by 481, or never, as UniMRCP's client.
    #[arg(long, value_enum, default_value = "ok")]
    pings: Answered,
    /// Ask for the server's resources by OPTIONS before each call.
    #[arg(long)]
    discover: bool,
    /// Give an INVITE or BYE up at the first ICMP error from there, as UniMRCP's client does.
    #[arg(long)]
    give_up_on_icmp: bool,
    /// Note in the JSON what happened when: answers by destination, failures, lost sessions, silences.
    #[arg(long, requires = "json")]
    timeline: bool,
    /// Exit with 1 if there was no call, or one that failed or was lost.
    #[arg(long)]
    check: bool,
    /// Print the report as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

/// What a ping inside a call gets.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Answered {
    Ok,
    #[value(name = "481")]
    Unknown,
    Never,
}

impl From<Answered> for Pings {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Ok => Pings::Ok,
            Answered::Unknown => Pings::Unknown,
            Answered::Never => Pings::Never,
        }
    }
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    if let Some(from) = args.from.filter(|from| from.is_ipv4() != args.to.is_ipv4()) {
        let text = format!("--from is {from}, which can't reach {}: give two addresses of one family", args.to);
        return Err(Failure::usage(text));
    }
    if args.give_up_on_icmp && matches!(args.transport, super::Spoken::Tcp) {
        return Err(Failure::usage(
            "--give-up-on-icmp is for UDP: by TCP no ICMP error comes; leave one of the two out",
        ));
    }
    block_on(call(args))
}

async fn call(args: &Args) -> Result<(), Failure> {
    // Without an end a Ctrl-C is one.
    let any = if args.to.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0; 16]) };
    let loopback = if args.to.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { "::1".parse().unwrap_or(any) };
    let bind = args.from.unwrap_or(if args.to.ip().is_loopback() { loopback } else { any });
    let config = CallerConfig {
        proxy: args.to,
        transport: args.transport.into(),
        bind,
        user_agent: args.user_agent.clone(),
        rate: args.rate,
        calls: args.calls,
        duration: args.duration,
        hold: args.hold,
        hang_up_at: args.hang_up_at,
        pings: args.pings.into(),
        discover: args.discover,
        timeout: Duration::from_secs(32),
        give_up_on_icmp: args.give_up_on_icmp,
        timeline: args.timeline,
    };
    let caller = Caller::new();
    let calls = run(config, &caller);
    tokio::pin!(calls);
    let report = tokio::select! {
        report = &mut calls => report,
        _ = super::run::stopped() => {
            caller.stop();
            calls.await
        }
    };
    let report = report.map_err(|error| {
        Failure::new(format!("can't call from {bind}: {error}: give an address of this machine with --from"))
    })?;
    print(&report, args.json);
    let is_well = report.calls > 0 && report.failed == 0 && report.lost == 0;
    match args.check && !is_well {
        true => Err(Failure::new(format!(
            "of {} calls {} failed and {} were lost",
            report.calls, report.failed, report.lost
        ))),
        false => Ok(()),
    }
}

/// The report for people, or for programs.
pub(super) fn print(report: &Report, json: bool) {
    term::line(&match json {
        true => serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")),
        false => report.to_string(),
    });
}
