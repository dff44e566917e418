//! `tandem mrcp-server`: a stand-in for an MRCPv2 server's SIP side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Failure, block_on, duration, term};
use crate::engine::flow::Transport;
use crate::engine::sip::sip_uri;
use crate::lab::{Behaviour, Counts, MrcpServer};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7010")]
    listen: SocketAddr,
    /// What to listen for.
    #[arg(long, value_enum, default_value = "udp")]
    transport: super::Spoken,
    /// Answer INVITEs only after this time.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    slow: Duration,
    /// Answer nothing at all.
    #[arg(long)]
    silent: bool,
    /// Answer INVITEs 486.
    #[arg(long)]
    busy: bool,
    /// Answer INVITE and OPTIONS 503.
    #[arg(long)]
    offline: bool,
    /// After an OPTIONS inside a dialog send BYE, as a real server does.
    #[arg(long)]
    bye_after_options: bool,
    /// Give an OPTIONS inside a dialog no answer.
    #[arg(long)]
    ignore_options: bool,
    /// Name no session timer (RFC 4028).
    #[arg(long)]
    untimed: bool,
    /// Send BYE so long after the ACK.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    hang_up_after: Option<Duration>,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    block_on(serve(args))
}

async fn serve(args: &Args) -> Result<(), Failure> {
    let behaviour = Behaviour {
        delay: args.slow,
        silent: args.silent,
        busy: args.busy,
        offline: args.offline,
        bye_after_options: args.bye_after_options,
        ignore_options: args.ignore_options,
        untimed: args.untimed,
        hang_up_after: args.hang_up_after,
    };
    let transport = Transport::from(args.transport);
    let server = MrcpServer::start_on(transport, args.listen, behaviour)
        .await
        .map_err(|error| cannot_listen(transport, args.listen, &error))?;
    term::line(&format!("MRCPv2 stand-in at {}, until SIGTERM or Ctrl-C", sip_uri(server.address(), transport)));
    super::run::stopped().await?;
    let counts = server.counts();
    let Counts { invites, byes, options, pings, peak, sessions, .. } = counts;
    term::line(&format!(
        "{invites} INVITEs, {byes} BYEs, {options} OPTIONS, {pings} pings, {sessions} sessions left, {peak} at most"
    ));
    Ok(())
}

fn cannot_listen(transport: Transport, address: SocketAddr, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port: stop it, or give another one with --listen",
        io::ErrorKind::AddrNotAvailable => "give an address of this machine with --listen",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: give a higher one with --listen"
        }
        _ => "give another address with --listen",
    };
    Failure::new(format!("can't listen on {} {address}: {error}: {remedy}", transport.name()))
}
