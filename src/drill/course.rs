//! The course of a drill: calls begin, something goes wrong, it is undone, calls end; all the while the nodes are asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{self, Instant};

use super::command::{self, CommandError};
use super::kind::Kind;
use super::site::{Act, Caller, Node, Site};
use super::state::{State, WANTED};
use crate::lab::Report;

/// How long callers make calls beforehand, and how long each of these lasts.
const FIRST: Duration = Duration::from_millis(500);
/// Calls a second of each then.
const FIRST_CALLS: f64 = 4.0;
/// How often each node is asked.
const PACE: Duration = Duration::from_millis(100);
/// How long a node may take to answer; who is slower counts as silent at that moment.
const ANSWER: Duration = Duration::from_secs(2);
/// How long one command of an act may take.
const ACT: Duration = Duration::from_secs(120);
/// How long a caller may take beyond the hold of its last call: an INVITE that nobody answers, then a BYE, 32 s each.
const LAST_CALL: Duration = Duration::from_secs(80);
/// How long the nodes may take to count no session when all calls are over.
const SETTLE: Duration = Duration::from_secs(3);

/// How long things are left as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the first call to the act.
    pub before: Duration,
    /// From the act to its undoing; planned work takes as long as it takes.
    pub during: Duration,
    /// From the undoing to the last call.
    pub after: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// What goes wrong.
    pub kind: Kind,
    /// Calls a second, of all callers.
    pub rate: f64,
    /// How long a call lasts.
    pub hold: Duration,
    /// How long the parts last.
    pub times: Times,
}

/// What has happened; all times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// When calls began.
    pub began: u64,
    /// When the act began.
    pub act: u64,
    /// When its undoing began.
    pub undo: u64,
    /// When it was undone.
    pub undone: u64,
    /// When the last call was begun.
    pub ended: u64,
    /// What each node told.
    pub looks: Vec<Vec<Look>>,
    /// What became of each caller's calls.
    pub reports: Vec<Report>,
}

/// A node that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it had answered, or had not.
    pub at: u64,
    /// What it told; none: no answer.
    pub state: Option<State>,
}

/// Why a drill could not be held.
#[derive(Debug, Error)]
pub enum DrillError {
    /// The site does not say how.
    #[error("{site} does not tell how: give it [{}] with act and undo", kind.name())]
    Unknown {
        /// The site.
        site: String,
        /// What it does not know.
        kind: Kind,
    },
    /// One of the site's commands.
    #[error("{who}: {source}")]
    Command {
        /// Whose.
        who: String,
        /// What is wrong with it.
        source: CommandError,
    },
    /// Nothing would be seen of it.
    #[error("node {node}: {why}")]
    Blind {
        /// A node.
        node: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Nothing would be heard of it.
    #[error(
        "caller {0}: none of its first calls was answered, and nothing has been done: mend its command, or what it calls"
    )]
    Unheard(String),
    /// Its calls came to an end before all was over.
    #[error("caller {0} ended before its time: let its command use $TIME and $HOLD")]
    Early(String),
    /// The act was not over when calls were.
    #[error("{} took {took:?}, longer than calls were made for: give a longer --during", kind.name())]
    Long {
        /// What took so long.
        kind: Kind,
        /// How long.
        took: Duration,
    },
    /// A task broke off.
    #[error("the drill broke off: {0}")]
    Broken(#[from] JoinError),
}

/// A drill that is held.
#[derive(Debug)]
pub struct Drill<'s> {
    site: &'s Site,
    act: &'s Act,
    plan: Plan,
    /// What is to be run so that all is as before, since the act may have begun.
    to_undo: VecDeque<&'s str>,
    /// The first of these, if it runs: whoever is interrupted meanwhile waits for it instead of running it twice.
    undoing: Option<JoinHandle<Result<String, CommandError>>>,
}

impl<'s> Drill<'s> {
    /// Holds none yet.
    ///
    /// # Errors
    /// [`DrillError::Unknown`].
    pub fn new(site: &'s Site, plan: Plan) -> Result<Self, DrillError> {
        let unknown = || DrillError::Unknown { site: site.name.clone(), kind: plan.kind };
        let act = site.acts.get(&plan.kind).ok_or_else(unknown)?;
        Ok(Drill { site, act, plan, to_undo: VecDeque::new(), undoing: None })
    }

    /// Holds it; `tell` hears how it goes. Whoever drops this, or gets an error, calls [`Drill::undo`] then.
    ///
    /// # Errors
    /// [`DrillError`] if the drill can't be held to its end.
    pub async fn run(&mut self, tell: impl Fn(&str)) -> Result<Course, DrillError> {
        let Plan { kind, times: Times { before, during, after }, .. } = self.plan;
        self.look_first().await?;
        self.call_first().await?;
        let watched = Watched::start(&self.site.nodes);
        let (start, began) = (Instant::now(), unix_ms());
        let mut calling = JoinSet::new();
        for (index, caller) in self.site.callers.iter().cloned().enumerate() {
            let plan = self.plan;
            calling.spawn(async move { (index, call(&caller, &plan).await) });
        }
        let mut course = Course { began, ..Course::default() };
        let elapsed = || format!("{:5.1} s", start.elapsed().as_secs_f64());
        tell(&format!("{}  calls begin", elapsed()));

        self.pause(start + before, &mut calling).await?;
        course.act = unix_ms();
        tell(&format!("{}  {}", elapsed(), kind.name()));
        self.to_undo = self.act.undo.iter().map(String::as_str).collect();
        for one in &self.act.act {
            command::run(one, ACT).await.map_err(|source| of_command("the act", source))?;
        }
        if kind.leaves_nothing() {
            course.undo = unix_ms();
        } else {
            self.pause(start + before + during, &mut calling).await?;
            course.undo = unix_ms();
            tell(&format!("{}  it is undone", elapsed()));
            self.undo().await?;
        }
        course.undone = unix_ms();
        tell(&format!("{}  all is done again", elapsed()));
        let took = start.elapsed().saturating_sub(before);
        if took >= during + after {
            return Err(DrillError::Long { kind, took });
        }
        self.pause(start + before + during + after, &mut calling).await?;
        course.ended = unix_ms();
        tell(&format!("{}  the last call has begun", elapsed()));
        course.reports = self.reports(calling).await?;
        tell(&format!("{}  all calls are over", elapsed()));
        course.looks = watched.finish().await;
        Ok(course)
    }

    /// Whether each node answers, and one could show that it has noticed.
    async fn look_first(&self) -> Result<(), DrillError> {
        let mut blind = None;
        let mut can_see = false;
        for node in &self.site.nodes {
            let of_node = |source| of_command(&format!("node {}", node.name), source);
            match ask(node).await.map_err(of_node)?.is_blind(self.plan.kind.sign()) {
                Some(why) => blind = blind.or(Some(DrillError::Blind { node: node.name.clone(), why })),
                None => can_see = true,
            }
        }
        blind.filter(|_| !can_see).map_or(Ok(()), Err)
    }

    /// Whether each caller gets an answer. A caller tells of its calls only when all are over, so it makes some beforehand.
    async fn call_first(&self) -> Result<(), DrillError> {
        let times = Times { before: FIRST, during: Duration::ZERO, after: Duration::ZERO };
        let mut calling = JoinSet::new();
        for (index, caller) in self.site.callers.iter().cloned().enumerate() {
            let plan = Plan { rate: FIRST_CALLS * 100.0 / caller.share, hold: FIRST, times, ..self.plan };
            calling.spawn(async move { (index, call(&caller, &plan).await) });
        }
        let reports = self.reports(calling).await?;
        let unheard = self.site.callers.iter().zip(&reports).find(|(_, report)| report.answered == 0);
        unheard.map_or(Ok(()), |(caller, _)| Err(DrillError::Unheard(caller.name.clone())))
    }

    /// Undoes what has been done, if it was; may be called at any time, also after it was dropped midway.
    ///
    /// # Errors
    /// [`DrillError::Command`]: it has to be undone by hand.
    pub async fn undo(&mut self) -> Result<(), DrillError> {
        // What one command can't undo, the others do all the same; it is left for another time.
        let mut done = Ok(());
        for _ in 0..self.to_undo.len() {
            let Some(one) = self.to_undo.front().map(|one| (*one).to_owned()) else { break };
            let running =
                self.undoing.get_or_insert_with(|| tokio::spawn(async move { command::run(&one, ACT).await }));
            let ended = running.await;
            self.undoing = None;
            match ended? {
                Ok(_) => drop(self.to_undo.pop_front()),
                Err(source) => {
                    self.to_undo.rotate_left(1);
                    done = done.and(Err(of_command("the undoing", source)));
                }
            }
        }
        done
    }

    /// Waits until then; a caller that ends is too early.
    async fn pause(&self, until: Instant, calling: &mut Calling) -> Result<(), DrillError> {
        tokio::select! {
            () = time::sleep_until(until) => Ok(()),
            Some(ended) = calling.join_next() => {
                let (index, report) = ended?;
                report.map_err(|source| self.of_caller(index, source))?;
                Err(DrillError::Early(self.site.callers[index].name.clone()))
            }
        }
    }

    async fn reports(&self, mut calling: Calling) -> Result<Vec<Report>, DrillError> {
        let mut reports = vec![Report::default(); self.site.callers.len()];
        while let Some(ended) = calling.join_next().await {
            let (index, report) = ended?;
            reports[index] = report.map_err(|source| self.of_caller(index, source))?;
        }
        Ok(reports)
    }

    fn of_caller(&self, index: usize, source: CommandError) -> DrillError {
        of_command(&format!("caller {}", self.site.callers[index].name), source)
    }
}

/// The callers, each with its index.
type Calling = JoinSet<(usize, Result<Report, CommandError>)>;

fn of_command(who: &str, source: CommandError) -> DrillError {
    DrillError::Command { who: who.to_owned(), source }
}

async fn call(caller: &Caller, plan: &Plan) -> Result<Report, CommandError> {
    let Times { before, during, after } = plan.times;
    let all = before + during + after;
    let variables = [
        ("RATE", format!("{:.3}", plan.rate * caller.share / 100.0)),
        ("HOLD", format!("{}ms", plan.hold.as_millis())),
        ("TIME", format!("{}ms", all.as_millis())),
    ];
    let child = command::start(&caller.calls, &variables)?;
    let printed = command::finish(&caller.calls, child, all + plan.hold + LAST_CALL).await?;
    let last = printed.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let wanted = "what tandem calls --json --timeline prints";
    let output = |fault: String| {
        let (command, printed) = (caller.calls.clone(), start_of(last));
        CommandError::Output { command, printed, wanted, fault }
    };
    let report: Report = serde_json::from_str(last).map_err(|fault| output(fault.to_string()))?;
    match report.timeline {
        Some(_) => Ok(report),
        None => Err(output("it has no timeline".to_owned())),
    }
}

async fn ask(node: &Node) -> Result<State, CommandError> {
    let printed = command::run(&node.state, ANSWER).await?;
    State::read(&printed).map_err(|fault| {
        let (command, printed) = (node.state.clone(), start_of(&printed));
        CommandError::Output { command, printed, wanted: WANTED, fault }
    })
}

fn start_of(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The nodes while they are asked.
struct Watched {
    looks: Arc<Mutex<Vec<Vec<Look>>>>,
    /// One for each node; dropping them ends them.
    asking: JoinSet<()>,
}

impl Watched {
    fn start(nodes: &[Node]) -> Self {
        let looks = Arc::new(Mutex::new(vec![Vec::new(); nodes.len()]));
        let mut asking = JoinSet::new();
        for (index, node) in nodes.iter().cloned().enumerate() {
            let looks = Arc::clone(&looks);
            asking.spawn(async move {
                loop {
                    let next = Instant::now() + PACE;
                    let state = ask(&node).await.ok();
                    locked(&looks)[index].push(Look { at: unix_ms(), state });
                    time::sleep_until(next).await;
                }
            });
        }
        Watched { looks, asking }
    }

    /// Everything that was seen; the nodes may take a moment to count no session.
    async fn finish(mut self) -> Vec<Vec<Look>> {
        let until = Instant::now() + SETTLE;
        while Instant::now() < until && !self.count_nothing() {
            time::sleep(PACE).await;
        }
        self.asking.shutdown().await;
        std::mem::take(&mut *locked(&self.looks))
    }

    fn count_nothing(&self) -> bool {
        let last = |looks: &Vec<Look>| looks.last().and_then(|look| look.state.as_ref()).map(|state| state.sessions);
        locked(&self.looks).iter().all(|looks| last(looks) == Some(0))
    }
}

fn locked(looks: &Mutex<Vec<Vec<Look>>>) -> MutexGuard<'_, Vec<Vec<Look>>> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
