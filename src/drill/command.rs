//! The commands that a site is made of, run by `sh -c`.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time;

/// Lines of what a failed command said that are told.
const TOLD: usize = 3;

/// Why a command has not done what it should.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It can't be run.
    #[error("can't run sh for {command:?}: {source}: install a shell")]
    Run {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It has not ended in time.
    #[error("{command:?} has not ended after {limit:?}: mend it, or what it waits for")]
    Late {
        /// The command.
        command: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It says that it has failed.
    #[error("{command:?} failed ({status}){said}: run it by hand and mend it")]
    Failed {
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it said, with its own separators; "" if nothing.
        said: String,
    },
    /// What it printed is something else than it should.
    #[error("{command:?} prints {printed:?}, which is not {wanted} ({fault}): mend it")]
    Output {
        /// The command.
        command: String,
        /// The start of what it printed.
        printed: String,
        /// What it should print.
        wanted: &'static str,
        /// What the reader complained of.
        fault: String,
    },
}

/// A command that runs; dropping it ends it and all that it has started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: Group,
}

/// The process group of a command; none: it has ended by itself, and what it left running is to run.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody is in it any more: so much the better.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Starts a command with these variables of its environment. It gets no input, its output is for whoever waits for it, and it
/// ends with what is returned. A Ctrl-C in the terminal is not for it.
///
/// # Errors
/// [`CommandError::Run`].
pub fn start(command: &str, variables: &[(&str, String)]) -> Result<Running, CommandError> {
    let child = Command::new("sh")
        .args(["-c", command])
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CommandError::Run { command: command.to_owned(), source })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    Ok(Running { child, group: Group(group) })
}

/// Waits for what `start` has started and returns what it printed.
///
/// # Errors
/// [`CommandError`] if it fails or does not end within `limit`.
pub async fn finish(command: &str, running: Running, limit: Duration) -> Result<String, CommandError> {
    let command = command.to_owned();
    let Running { child, mut group } = running;
    let ended = time::timeout(limit, child.wait_with_output()).await;
    if ended.is_ok() {
        group.0 = None;
    }
    match ended {
        Err(_) => Err(CommandError::Late { command, limit }),
        Ok(Err(source)) => Err(CommandError::Run { command, source }),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(failed(command, &output)),
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`CommandError`] if it fails or does not end within `limit`.
pub async fn run(command: &str, limit: Duration) -> Result<String, CommandError> {
    let running = start(command, &[])?;
    finish(command, running, limit).await
}

fn failed(command: String, output: &Output) -> CommandError {
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said: String = lines.iter().skip(lines.len().saturating_sub(TOLD)).map(|line| format!("; {line}")).collect();
    CommandError::Failed { command, status: output.status.to_string(), said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(command: &str, limit: Duration) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(command, limit)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_prints_fails_or_is_late() {
        let minute = Duration::from_secs(60);
        assert_eq!(done("echo a; echo b >&2", minute), Ok("a\n".to_owned()));
        let error = done("echo why >&2; exit 3", minute).expect_err("it fails");
        assert!(error.contains("exit status: 3); why: run it by hand"), "{error}");
        let error = done("sleep 60", Duration::from_millis(50)).expect_err("it is late");
        assert!(error.contains("has not ended after 50ms"), "{error}");
    }

    #[test]
    fn who_is_late_ends_with_all_that_it_has_started() {
        let file = std::env::temp_dir().join(format!("tandem-late-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let command = format!("sleep 600 & echo $! >{}; wait", file.display());
        let error = done(&command, Duration::from_secs(2)).expect_err("it is late");
        assert!(error.contains("has not ended after 2s"), "{error}");
        let child = std::fs::read_to_string(&file).expect("it was started").trim().to_owned();
        std::fs::remove_file(&file).expect("it is there");
        // Whoever adopts it buries it when it can.
        let ended = format!("until ! grep -q '^State:.[^Z]' /proc/{child}/status 2>/dev/null; do sleep 0.05; done");
        assert_eq!(done(&ended, Duration::from_secs(30)), Ok(String::new()));
    }

    #[test]
    fn what_a_command_leaves_running_is_not_waited_for() {
        let left = "sleep 5 >/dev/null 2>&1 </dev/null & echo done";
        assert_eq!(done(left, Duration::from_secs(4)), Ok("done\n".to_owned()));
    }
}
