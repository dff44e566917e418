//! `tandem man`: a manual page for tandem and for each command. The one door of crate `clap_mangen`.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, Failure, term};
use crate::edge::build::VERSION;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command [default: tandem itself].
    #[arg(conflicts_with = "out")]
    command: Option<String>,
    /// Write tandem.1, tandem-set.1 and all others into this folder instead.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    match &args.out {
        Some(folder) => pages().iter().try_for_each(|page| write(folder, page)),
        None => {
            let name = args.command.as_ref().map_or_else(|| TANDEM.to_owned(), |command| format!("{TANDEM}-{command}"));
            let pages = pages();
            let page = pages.iter().find(|page| page.name == name).ok_or_else(|| {
                let command = args.command.as_deref().unwrap_or_default();
                Failure::usage(format!("there is no command {command}: `tandem --help` lists them"))
            })?;
            term::write(&page.text);
            Ok(())
        }
    }
}

fn write(folder: &Path, page: &Page) -> Result<(), Failure> {
    let file = folder.join(format!("{}.1", page.name));
    std::fs::write(&file, &page.text).map_err(|error| {
        Failure::new(format!("{}: can't write it: {error}: give a folder that is there", file.display()))
    })
}

const TANDEM: &str = "tandem";

/// One page: its name, and what `man` reads.
struct Page {
    name: String,
    text: String,
}

fn pages() -> Vec<Page> {
    let mut tandem = Cli::command();
    tandem.build();
    let mut pages = vec![page(&tandem, TANDEM)];
    pages.extend(tandem.get_subcommands().map(|command| page(command, &format!("{TANDEM}-{}", command.get_name()))));
    pages
}

fn page(command: &Command, name: &str) -> Page {
    let title = name.to_owned();
    let man = Man::new(command.clone().display_name(title.clone()).version(VERSION))
        .title(title.to_uppercase())
        .source(format!("{TANDEM} {VERSION}"))
        .manual("Tandem");
    let mut text = Vec::new();
    let sections = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    for section in sections {
        section(&man, &mut text).expect("writing to memory");
    }
    let mut roff = Roff::new();
    if name == TANDEM {
        roff.control("SH", ["COMMANDS"]);
        for one in command.get_subcommands() {
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            item(&mut roff, &format!("{TANDEM}-{}(1)", one.get_name()), &about);
        }
    }
    let command = name.strip_prefix("tandem-").unwrap_or_default();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in statuses(command) {
        item(&mut roff, &status.to_string(), meaning);
    }
    let files = files(command);
    if !files.is_empty() {
        roff.control("SH", ["FILES"]);
        files.iter().for_each(|(file, text)| item(&mut roff, file, text));
    }
    let examples = examples(command);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        examples.iter().for_each(|(line, text)| item(&mut roff, line, text));
    }
    let others: Vec<_> = see_also(command).iter().map(|name| format!("{name}(1)")).collect();
    roff.control("SH", ["SEE ALSO"]).text([roman(others.join(", "))]);
    roff.to_writer(&mut text).expect("writing to memory");
    Page { name: title, text: String::from_utf8(text).expect("our help is text") }
}

fn item(roff: &mut Roff, name: &str, text: &str) {
    roff.control("TP", []).text([bold(name)]).text([roman(text)]);
}

const DONE: (u8, &str) = (0, "It is done.");
const FAILED: (u8, &str) = (1, "It failed, was refused, or no node is there; standard error tells why.");
const USAGE: (u8, &str) = (2, "The command line is wrong.");
const CONFIG: (u8, &str) =
    (78, "The configuration or the rows have faults (EX_CONFIG of sysexits.h); each is told with what to do.");

/// What a command ends with.
fn statuses(command: &str) -> Vec<(u8, &'static str)> {
    match command {
        "check" => vec![(0, "There are no faults."), FAILED, USAGE, CONFIG],
        "run" => vec![(0, "It was told to stop, and has."), FAILED, USAGE, CONFIG],
        "list" => vec![
            DONE,
            (1, "With --check: a set has no fit destination. Else no node is there, or it has no such set."),
            USAGE,
        ],
        "ready" => {
            vec![(0, "It can take calls."), (1, "It can't, as standard error tells, or no node is there."), USAGE]
        }
        "calls" => vec![
            DONE,
            (1, "It can't call from there. With --check: there was no call, or one failed or was lost."),
            USAGE,
        ],
        "plan" => vec![(0, "A reload would do this."), (1, "It would be refused, or no node is there."), USAGE],
        "import" => vec![
            (0, "All was mapped or approximated."),
            (1, "Something can't be mapped, as the report tells."),
            USAGE,
            (78, "The source can't be read."),
        ],
        "drill" => vec![
            (0, "All is within its limits."),
            (1, "Something is beyond a limit: standard error has a line for each."),
            (2, "The command line is wrong, or the drill could not be held: what it had done is undone."),
        ],
        "" | "explain" => vec![DONE, FAILED, USAGE, CONFIG],
        _ => vec![DONE, FAILED, USAGE],
    }
}

const CONFIGURATION: (&str, &str) = (
    "config/tandem.toml, /etc/tandem/tandem.toml",
    "The configuration, the first of them that is there, unless --config names another: where a node listens, its rules and its sets.",
);

fn files(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "calls" | "completions" | "demo" | "import" | "man" | "mrcp-server" => &[],
        "drill" => {
            &[("config/drill-site.toml", "A site: how nodes are asked, who makes calls, what does and undoes what.")]
        }
        "" | "run" => &[
            CONFIGURATION,
            (
                "state/",
                "What outlives a restart, where state_dir of the configuration says: orders, sets, versions of them.",
            ),
        ],
        _ => &[CONFIGURATION],
    }
}

fn examples(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "" => &[
            ("tandem demo", "Everything in one process, to be seen."),
            ("tandem list", "The sets of the node that runs here, and what is wrong with them."),
            ("tandem show 19 7012", "Why this destination gets no calls."),
        ],
        "run" => {
            &[("tandem run --config /etc/tandem/tandem.toml", "Serves until SIGTERM; SIGHUP reads the sets anew.")]
        }
        "check" => &[("tandem check --config /etc/tandem/tandem.toml", "Before a restart.")],
        "list" => &[
            ("tandem list", "All sets."),
            ("tandem list --check >/dev/null || page somebody", "For a monitor: is there a set that serves nobody?"),
        ],
        "ready" => &[
            (
                "tandem ready --config /etc/tandem/tandem.toml",
                "For a container's health check, or a script that waits.",
            ),
            ("tandem ready --live", "It answers, whether it can take calls or not."),
        ],
        "top" => &[
            ("tandem top --http 10.0.0.1:9060", "Another node than that of this machine."),
            ("tandem top --once | head -20", "The worst, as text."),
        ],
        "show" => &[
            ("tandem show 19", "The destinations of set 19."),
            ("tandem show 19 7012", "Everything of one of them, with what was seen last."),
            ("tandem show --nodes", "The nodes of the cluster and the virtual addresses that they hold."),
        ],
        "set" => &[
            (
                "tandem set 19 7010 drain --reason \"new model\" --deadline 10m",
                "It keeps its sessions and takes no new one; the log tells if some are left after ten minutes.",
            ),
            ("tandem set 19 7010 ready --reason done", "It is in service again."),
        ],
        "events" => &[
            ("tandem events --kind health,order --set 19", "What has happened to the destinations of set 19."),
            ("tandem events --follow --json", "A line of JSON for each event, for whoever gathers them."),
        ],
        "explain" => &[("tandem explain invite.txt", "Where this call would go, and why.")],
        "calls" => &[("tandem calls --check --calls 1 --hold 10ms", "A health check: does a call go through?")],
        "end" => &[("tandem end --call-id a84b4c76 --reason stuck", "Both ends get BYE.")],
        "sessions" => &[("tandem sessions --set 19 --destination 7010", "Who is served there.")],
        "reload" => &[(
            "tandem reload --reason \"new rack\"",
            "After the table was changed; `tandem plan` tells what it would do.",
        )],
        "rollback" => &[
            ("tandem rollback", "Which versions there are."),
            ("tandem rollback 7 --reason \"wrong rack\"", "Serves version 7 until the rows change."),
        ],
        "completions" => &[
            ("tandem completions bash >/etc/bash_completion.d/tandem", "For all who use bash here."),
            ("tandem completions zsh >\"${fpath[1]}/_tandem\"", "For zsh."),
        ],
        "man" => &[
            ("tandem man set | man -l -", "Reads a page."),
            ("tandem man --out /usr/local/share/man/man1", "Puts all of them where man looks."),
        ],
        _ => &[],
    }
}

/// The pages that somebody reads next.
fn see_also(command: &str) -> &'static [&'static str] {
    match command {
        "" => &["tandem-run", "tandem-list", "tandem-top", "tandem-show"],
        "run" => &["tandem", "tandem-check", "tandem-reload"],
        "check" => &["tandem", "tandem-run", "tandem-import"],
        "list" | "ready" | "top" => &["tandem", "tandem-show", "tandem-events"],
        "show" => &["tandem", "tandem-list", "tandem-set", "tandem-explain"],
        "events" => &["tandem", "tandem-top", "tandem-show"],
        "set" => &["tandem", "tandem-show", "tandem-sessions"],
        "plan" | "reload" | "rollback" => &["tandem", "tandem-plan", "tandem-reload", "tandem-rollback"],
        "sessions" | "end" => &["tandem", "tandem-sessions", "tandem-end", "tandem-set"],
        "calls" | "mrcp-server" | "demo" | "drill" => &["tandem", "tandem-calls", "tandem-mrcp-server", "tandem-drill"],
        _ => &["tandem"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_no_page_names_one_that_is_not_there() {
        let pages = pages();
        let names: Vec<_> = pages.iter().map(|page| page.name.as_str()).collect();
        assert!(names.contains(&"tandem") && names.contains(&"tandem-set") && names.contains(&"tandem-mrcp-server"));
        for page in &pages {
            let command = page.name.strip_prefix("tandem-").unwrap_or_default();
            let others = see_also(command);
            assert!(others.iter().all(|other| names.contains(other)), "{}: {others:?}", page.name);
            for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH \"EXIT STATUS\"", ".SH \"SEE ALSO\""] {
                assert!(page.text.contains(section), "{} lacks {section}:\n{}", page.name, page.text);
            }
        }
    }

    #[test]
    fn the_examples_are_commands_that_it_takes() {
        for name in pages().iter().map(|page| page.name.clone()) {
            let command = name.strip_prefix("tandem-").unwrap_or_default().to_owned();
            for (line, _) in examples(&command) {
                let words = line
                    .split(['|', '>'])
                    .next()
                    .unwrap_or_default()
                    .replace("new model", "x")
                    .replace("new rack", "x");
                let words = words.replace("wrong rack", "x").replace('"', "");
                let parsed = Cli::command().try_get_matches_from(words.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("a fault"));
            }
        }
    }
}
