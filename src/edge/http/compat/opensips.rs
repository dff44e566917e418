//! OpenSIPS's management interface: the dispatcher's commands by their old and their new names (`ds_list`,
//! `dispatcher:list`), their answers and faults as its modules/dispatcher and mi/mi.c write them. Its numbers of states are
//! not those of the table: 0 is inactive, 1 active, 2 probing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::rpc::{Dialect, Fault, Params};
use super::{Giver, NotDone, PARTITIONS, Service, Wanted, destination, place, rows, sets};
use crate::edge::http::sets::{Refusal, in_time};
use crate::edge::http::{Node, Shared};
use crate::engine::Snapshot;
use crate::engine::dispatch::{Order, RowState};
use crate::engine::flow::Listener;
use crate::engine::snapshot::{DestinationView, SetView};

const SET_STATE: Giver = Giver { by: "mi", reason: "ds_set_state" };
const RELOAD: Giver = Giver { by: "mi", reason: "ds_reload" };

/// What it can be asked, each by its names and by the lists of parameters that it takes.
const COMMANDS: [Command; 4] = [
    Command {
        does: Does::List,
        names: &["dispatcher:list", "ds_list"],
        recipes: &[&[], &["partition"], &["full"], &["full", "partition"]],
    },
    Command {
        does: Does::Reload,
        names: &["dispatcher:reload", "ds_reload"],
        recipes: &[&[], &["inherit_state"], &["partition"], &["partition", "inherit_state"]],
    },
    Command {
        does: Does::SetState,
        names: &["dispatcher:set_state", "ds_set_state"],
        recipes: &[&["state", "group", "address"]],
    },
    // opensips-cli runs nothing that this does not name.
    Command { does: Does::Which, names: &["which"], recipes: &[&[], &["command"]] },
];

struct Command {
    does: Does,
    names: &'static [&'static str],
    recipes: &'static [&'static [&'static str]],
}

#[derive(Clone, Copy)]
enum Does {
    List,
    Reload,
    SetState,
    Which,
}

impl Command {
    fn named(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.names.contains(&name))
    }

    /// The parameters with their names, if one list of them fits and no other does.
    fn arguments(&self, params: Params) -> Result<Arguments, Fault> {
        let fitting = |count| self.recipes.iter().filter(move |recipe| recipe.len() == count);
        match params {
            Params::None if fitting(0).next().is_some() => Ok(Arguments::default()),
            Params::ByPosition(values) => match fitting(values.len()).collect::<Vec<_>>()[..] {
                [recipe] => Ok(Arguments(recipe.iter().copied().zip(values).collect())),
                [] => Err(invalid("Too few or too many parameters")),
                _ => Err(invalid("Ambiguous call, use named parameters instead")),
            },
            Params::ByName(mut values) => {
                let mut fitting = fitting(values.len()).peekable();
                if fitting.peek().is_none() {
                    return Err(invalid("Too few or too many parameters"));
                }
                let recipe = fitting.find(|recipe| recipe.iter().all(|name| values.contains_key(*name)));
                let recipe = recipe.ok_or_else(|| invalid("Named parameters do not match"))?;
                Ok(Arguments(recipe.iter().filter_map(|&name| Some((name, values.remove(name)?))).collect()))
            }
            Params::None => Err(invalid("Too few or too many parameters")),
        }
    }
}

/// Parameters by their names.
#[derive(Debug, Default)]
struct Arguments(Vec<(&'static str, Value)>);

impl Arguments {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A number is the text that it is written as.
    fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) if number.is_i64() => Ok(Some(number.to_string())),
            Some(_) => Err(invalid(&format!("Bad type for parameter '{name}'"))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Fault> {
        let bad = |_| invalid(&format!("Bad type for parameter '{name}'"));
        self.text(name)?.map(|text| text.trim().parse().map_err(bad)).transpose()
    }

    /// The text of what the command can't do without.
    fn needed(&self, name: &str) -> Result<String, Fault> {
        Ok(self.text(name)?.unwrap_or_default())
    }
}

fn invalid(data: &str) -> Fault {
    Fault::new(-32602, "Invalid params").with(data)
}

fn server_error(cause: String) -> Fault {
    Fault::new(-32000, "Server error").with(cause)
}

impl From<Refusal> for Fault {
    fn from(Refusal(_, cause): Refusal) -> Self {
        server_error(cause)
    }
}

/// The management interface.
pub(super) struct Mi<N>(pub(super) Shared<N>);

impl<N: Node> Dialect for Mi<N> {
    type Result = Answer;

    /// What fails is told in the answer alone.
    fn status(_: &Fault) -> StatusCode {
        StatusCode::OK
    }

    async fn call(&self, method: &str, params: Params) -> Result<Answer, Fault> {
        let command = Command::named(method).ok_or_else(|| Fault::new(-32601, "Method not found"))?;
        let arguments = command.arguments(params)?;
        match command.does {
            Does::List => self.list(&arguments).await,
            Does::Reload => self.reload(&arguments).await,
            Does::SetState => self.set_state(&arguments).await,
            Does::Which => which(arguments.text("command")?.as_deref()),
        }
    }
}

/// What a command says.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Word(&'static str),
    Names(Vec<&'static str>),
    Recipes(&'static [&'static [&'static str]]),
    List(List),
}

const OK: Answer = Answer::Word("OK");

impl<N: Node> Mi<N> {
    async fn snapshot(&self) -> Result<Arc<Snapshot>, Fault> {
        Ok(in_time(self.0.node.snapshot()).await?)
    }

    async fn list(&self, arguments: &Arguments) -> Result<Answer, Fault> {
        let full = arguments.number("full")?.is_some_and(|full| full != 0);
        let partition = partition(arguments)?;
        Ok(Answer::List(List::of(&*self.snapshot().await?, self.0.node.listeners(), partition, full)))
    }

    async fn reload(&self, arguments: &Arguments) -> Result<Answer, Fault> {
        // All partitions are one table.
        partition(arguments)?;
        let failed = |cause: String| Fault::new(500, "ERROR Reloading data").with(cause);
        self.0.reload(RELOAD).await.map_err(failed)?;
        if matches!(arguments.text("inherit_state")?.as_deref(), Some("0" | "n" | "N")) {
            self.take_states().await?;
        }
        Ok(OK)
    }

    /// What was ordered by hand ends: the `state` column holds again.
    async fn take_states(&self) -> Result<(), Fault> {
        for set in &self.snapshot().await?.sets {
            for row in rows(set) {
                let wanted = match (row[0].state, row[0].standing.order) {
                    (RowState::Active, Order::Ready) | (RowState::Inactive, Order::Maint) => continue,
                    (RowState::Active, Order::Drain | Order::Maint) => Wanted::In,
                    (RowState::Inactive, Order::Ready | Order::Drain) => Wanted::Off,
                    (RowState::Probing, _) => Wanted::Failed,
                };
                match self.0.make(set, &row[0].uri, wanted, RELOAD).await {
                    // As where the table is read: what nobody watches is not held for failed.
                    Ok(()) | Err(NotDone::Unknown | NotDone::Unwatched(_)) => {}
                    Err(NotDone::Failed(cause)) => return Err(server_error(cause)),
                }
            }
        }
        Ok(())
    }

    async fn set_state(&self, arguments: &Arguments) -> Result<Answer, Fault> {
        let bad_state = || Fault::new(500, "Bad state value");
        let wanted = wanted(&arguments.needed("state")?).ok_or_else(bad_state)?;
        let group = arguments.needed("group")?;
        let (partition, number) = group.split_once(':').unwrap_or((PARTITIONS[0], &group));
        let partition = known(partition.trim()).ok_or_else(|| Fault::new(404, "ERROR Unknown partition"))?;
        let number: u32 = number.trim().parse().map_err(|_| Fault::new(500, "bad group value"))?;
        let address = arguments.needed("address")?;
        let snapshot = self.snapshot().await?;
        let set = snapshot.sets.iter().find(|set| place(set.id) == (partition, number));
        let found = set.and_then(|set| Some((set, destination(set, &address)?)));
        let not_found = || Fault::new(404, "destination not found");
        let (set, uri) = found.ok_or_else(not_found)?;
        self.0.make(set, uri, wanted, SET_STATE).await.map_err(|fault| match fault {
            NotDone::Unknown => not_found(),
            NotDone::Unwatched(remedy) => bad_state().with(remedy),
            NotDone::Failed(cause) => server_error(cause),
        })?;
        Ok(OK)
    }
}

/// A state as the command says it: its first letter, or its number here, decides.
fn wanted(state: &str) -> Option<Wanted> {
    match state.chars().next()? {
        '0' | 'i' | 'I' => Some(Wanted::Off),
        '1' | 'a' | 'A' => Some(Wanted::In),
        '2' | 'p' | 'P' => Some(Wanted::Failed),
        _ => None,
    }
}

/// The partition that is named; none: all.
fn partition(arguments: &Arguments) -> Result<Option<&'static str>, Fault> {
    let unknown = || Fault::new(500, "ERROR Unknown partition");
    arguments.text("partition")?.map(|name| known(&name).ok_or_else(unknown)).transpose()
}

fn known(partition: &str) -> Option<&'static str> {
    PARTITIONS.into_iter().find(|known| *known == partition)
}

/// The commands that there are; of one, its lists of parameters.
fn which(command: Option<&str>) -> Result<Answer, Fault> {
    let names =
        |of: &str| COMMANDS.iter().flat_map(|one| one.names).copied().filter(|name| name.starts_with(of)).collect();
    let unknown = || Fault::new(404, "unknown MI command");
    match command {
        None => Ok(Answer::Names(names(""))),
        Some(module) if module.ends_with(':') => {
            let names: Vec<_> = names(module);
            if names.is_empty() { Err(unknown()) } else { Ok(Answer::Names(names)) }
        }
        Some(command) => Command::named(command).map(|one| Answer::Recipes(one.recipes)).ok_or_else(unknown),
    }
}

/// `ds_list`.
#[derive(Debug, Serialize)]
pub(super) struct List {
    #[serde(rename = "PARTITIONS")]
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Partition {
    name: &'static str,
    /// None if it has no rows.
    #[serde(rename = "SETS", skip_serializing_if = "Vec::is_empty")]
    sets: Vec<Set>,
}

#[derive(Debug, Serialize)]
struct Set {
    id: u32,
    #[serde(rename = "Destinations")]
    destinations: Vec<Destination>,
}

#[derive(Debug, Serialize)]
struct Destination {
    #[serde(rename = "URI")]
    uri: String,
    state: &'static str,
    first_hit_counter: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    attr: String,
    #[serde(flatten)]
    full: Option<Full>,
    resolved_addresses: Vec<SocketAddr>,
}

/// What only `full` tells.
#[derive(Debug, Serialize)]
struct Full {
    weight: u32,
    priority: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

impl List {
    fn of(snapshot: &Snapshot, listeners: &[Listener], only: Option<&str>, full: bool) -> Self {
        let sets_of = |name: &str| {
            let here = sets(snapshot).filter(|set| place(set.id).0 == name);
            here.map(|set| Set::of(set, listeners, full)).collect()
        };
        let names = PARTITIONS.into_iter().filter(|&name| only.is_none_or(|only| only == name));
        List { partitions: names.map(|name| Partition { name, sets: sets_of(name) }).collect() }
    }
}

impl Set {
    fn of(set: &SetView, listeners: &[Listener], full: bool) -> Self {
        let destinations = rows(set).map(|row| Destination::of(row, listeners, full)).collect();
        Set { id: place(set.id).1, destinations }
    }
}

impl Destination {
    fn of(row: &[DestinationView], listeners: &[Listener], full: bool) -> Self {
        let one = &row[0];
        Destination {
            uri: one.uri.clone(),
            state: match Service::of(row) {
                Service::In => "Active",
                Service::OnTrial | Service::Failed => "Probing",
                Service::Off => "Inactive",
            },
            first_hit_counter: row.iter().map(|one| one.selections).sum(),
            socket: one.socket.and_then(|id| listeners.get(usize::from(id.0))).map(Listener::name),
            attr: one.attrs.clone(),
            full: full.then(|| Full {
                weight: one.weight,
                priority: one.priority,
                description: one.description.clone(),
            }),
            resolved_addresses: row.iter().filter_map(|one| one.address).collect(),
        }
    }
}
