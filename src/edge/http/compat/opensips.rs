//! OpenSIPS's management interface: the dispatcher's commands by their old and their new names (`ds_list`,
//! `dispatcher:list`), their answers and faults as its modules/dispatcher and mi/mi.c write them. Its numbers of states are
//! not those of the table: 0 is inactive, 1 active, 2 probing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::rpc::{Dialect, Fault, Params};
use super::{Giver, NotDone, Partitions, Service, Wanted, destination, rows, sets};
use crate::edge::http::sets::{Refusal, in_time};
use crate::edge::http::{Node, Shared};
use crate::engine::Snapshot;
use crate::engine::dispatch::{Order, RowState};
use crate::engine::flow::Listener;
use crate::engine::snapshot::{DestinationView, SetView};

const SET_STATE: &str = "ds_set_state";
const RELOAD: &str = "ds_reload";

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

/// Whether a command changes something.
pub(super) fn orders(method: &str) -> bool {
    Command::named(method).is_some_and(|command| match command.does {
        Does::List | Does::Which => false,
        Does::Reload | Does::SetState => true,
    })
}

fn invalid(data: &str) -> Fault {
    Fault::new(-32602, "Invalid params").with(data)
}

fn server_error(cause: String) -> Fault {
    Fault::new(-32000, "Server error").with(cause)
}

/// The management interface.
pub(super) struct Mi<N> {
    pub(super) shared: Shared<N>,
    /// Who gives orders by it.
    pub(super) by: String,
    /// [`super::is_guarded`].
    pub(super) guarded: bool,
}

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
    fn giver(&self, reason: &'static str) -> Giver<'_> {
        Giver { by: &self.by, reason, guarded: self.guarded }
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>, Fault> {
        in_time(self.shared.node.snapshot()).await.map_err(|Refusal(_, cause)| server_error(cause))
    }

    fn partitions(&self) -> Partitions {
        Partitions(self.shared.node.partitions())
    }

    async fn list(&self, arguments: &Arguments) -> Result<Answer, Fault> {
        let full = arguments.number("full")?.is_some_and(|full| full != 0);
        let partitions = self.partitions();
        let only = partition(arguments, &partitions)?;
        Ok(Answer::List(List::of(
            &*self.snapshot().await?,
            self.shared.node.listeners(),
            &partitions,
            only.as_deref(),
            full,
        )))
    }

    async fn reload(&self, arguments: &Arguments) -> Result<Answer, Fault> {
        let partition = partition(arguments, &self.partitions())?;
        let failed = |cause: String| Fault::new(500, "ERROR Reloading data").with(cause);
        self.shared.reload(self.giver(RELOAD), partition).await.map_err(failed)?;
        if matches!(arguments.text("inherit_state")?.as_deref(), Some("0" | "n" | "N")) {
            self.take_states().await?;
        }
        Ok(OK)
    }

    /// What was ordered by hand ends: the `state` column holds again, unless it is what follows the orders.
    async fn take_states(&self) -> Result<(), Fault> {
        for set in self.snapshot().await?.sets.iter().filter(|set| !self.shared.node.persists(set.id)) {
            for row in rows(set) {
                let wanted = match (row[0].state, row[0].standing.order) {
                    (RowState::Active, Order::Ready) | (RowState::Inactive, Order::Maint) => continue,
                    (RowState::Active, Order::Drain | Order::Maint) => Wanted::In,
                    (RowState::Inactive, Order::Ready | Order::Drain) => Wanted::Off,
                    (RowState::Probing, _) => Wanted::Failed,
                };
                match self.shared.make(set, &row[0].uri, wanted, self.giver(RELOAD)).await {
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
        let (partition, number) = group.split_once(':').unwrap_or((Partitions::DEFAULT, &group));
        let (partition, partitions) = (partition.trim(), self.partitions());
        if !partitions.has(partition) {
            return Err(Fault::new(404, "ERROR Unknown partition"));
        }
        let number: u32 = number.trim().parse().map_err(|_| Fault::new(500, "bad group value"))?;
        let address = arguments.needed("address")?;
        let snapshot = self.snapshot().await?;
        let set = snapshot.sets.iter().find(|set| partitions.place(set.id) == (partition, number));
        let found = set.and_then(|set| Some((set, destination(set, &address)?)));
        let not_found = || Fault::new(404, "destination not found");
        let (set, uri) = found.ok_or_else(not_found)?;
        self.shared.make(set, uri, wanted, self.giver(SET_STATE)).await.map_err(|fault| match fault {
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
fn partition(arguments: &Arguments, partitions: &Partitions) -> Result<Option<String>, Fault> {
    match arguments.text("partition")? {
        Some(name) if !partitions.has(&name) => Err(Fault::new(500, "ERROR Unknown partition")),
        named => Ok(named),
    }
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
    name: String,
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
    fn of(
        snapshot: &Snapshot,
        listeners: &[Listener],
        partitions: &Partitions,
        only: Option<&str>,
        full: bool,
    ) -> Self {
        let sets_of = |name: &str| {
            let placed = sets(snapshot).map(|set| (set, partitions.place(set.id)));
            let here = placed.filter(|(_, (partition, _))| *partition == name);
            here.map(|(set, (_, number))| Set::of(number, set, listeners, full)).collect()
        };
        let names = partitions.names().filter(|&name| only.is_none_or(|only| only == name));
        let partition = |name: &str| Partition { name: name.to_owned(), sets: sets_of(name) };
        List { partitions: names.map(partition).collect() }
    }
}

impl Set {
    fn of(number: u32, set: &SetView, listeners: &[Listener], full: bool) -> Self {
        let destinations = rows(set).map(|row| Destination::of(row, listeners, full)).collect();
        Set { id: number, destinations }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{listeners, snapshot};
    use super::*;

    fn default() -> Partitions {
        Partitions(vec![("default".to_owned(), 0)])
    }

    fn list(partition: Option<&str>, full: bool) -> String {
        let partitions = default();
        serde_json::to_string(&List::of(&snapshot(), &listeners(), &partitions, partition, full)).expect("JSON")
    }

    #[test]
    fn a_list_is_as_opensips_writes_it() {
        let written = concat!(
            r#"{"PARTITIONS":[{"name":"default","SETS":[{"id":19,"Destinations":["#,
            r#"{"URI":"sip:10.0.0.1:8060","state":"Active","first_hit_counter":0,"socket":"udp:10.0.0.9:5060","#,
            r#""attr":"duid=srv1;weight=50;maxload=100","resolved_addresses":["10.0.0.1:8060"]},"#,
            r#"{"URI":"sip:tts.example:7010;transport=tcp","state":"Active","first_hit_counter":0,"#,
            r#""resolved_addresses":["10.0.0.2:7010","10.0.0.3:7010"]},"#,
            r#"{"URI":"sip:10.0.0.4:7010","state":"Inactive","first_hit_counter":0,"resolved_addresses":["10.0.0.4:7010"]},"#,
            r#"{"URI":"sip:[2001:db8::5]:7010","state":"Probing","first_hit_counter":0,"#,
            r#""resolved_addresses":["[2001:db8::5]:7010"]}]}]}]}"#,
        );
        assert_eq!(list(None, false), written);
        assert_eq!(list(Some("default"), false), written);
    }

    #[test]
    fn sets_have_the_numbers_of_their_partition() {
        let partitions = Partitions(vec![("default".to_owned(), 0), ("tts".to_owned(), 10), ("asr".to_owned(), 20)]);
        let list = List::of(&snapshot(), &listeners(), &partitions, None, false);
        let list = serde_json::to_string(&list).expect("JSON");
        let begins = r#"{"PARTITIONS":[{"name":"default"},{"name":"tts","SETS":[{"id":9,"#;
        assert!(list.starts_with(begins) && list.ends_with(r#",{"name":"asr"}]}"#), "{list}");
    }

    #[test]
    fn a_full_list_has_weight_priority_and_description_too() {
        let written = concat!(
            r#"{"URI":"sip:10.0.0.1:8060","state":"Active","first_hit_counter":0,"socket":"udp:10.0.0.9:5060","#,
            r#""attr":"duid=srv1;weight=50;maxload=100","weight":50,"priority":0,"description":"TTS \"one\"","#,
            r#""resolved_addresses":["10.0.0.1:8060"]},"#,
            r#"{"URI":"sip:tts.example:7010;transport=tcp","state":"Active","first_hit_counter":0,"weight":50,"priority":-1,"#,
            r#""resolved_addresses":["10.0.0.2:7010","10.0.0.3:7010"]},"#,
        );
        assert!(list(None, true).contains(written), "{}", list(None, true));
    }

    #[test]
    fn a_partition_without_rows_has_no_sets() {
        let list = List::of(&Snapshot::default(), &[], &default(), None, false);
        assert_eq!(serde_json::to_string(&list).expect("JSON"), r#"{"PARTITIONS":[{"name":"default"}]}"#);
    }

    #[test]
    fn parameters_fit_one_list_or_are_refused_as_opensips_does() {
        let arguments = |command: &str, params: Value| {
            let params = match params {
                Value::Array(values) => Params::ByPosition(values),
                Value::Object(values) => Params::ByName(values),
                _ => Params::None,
            };
            let command = Command::named(command).expect("it is one");
            command.arguments(params).map(|Arguments(all)| all).map_err(|fault| fault.data.unwrap_or_default())
        };
        for name in ["ds_set_state", "dispatcher:set_state"] {
            let all = vec![("state", json!("i")), ("group", json!(19)), ("address", json!("sip:a"))];
            assert_eq!(arguments(name, json!(["i", 19, "sip:a"])), Ok(all.clone()));
            assert_eq!(arguments(name, json!({ "address": "sip:a", "group": 19, "state": "i" })), Ok(all));
        }
        assert_eq!(arguments("ds_list", Value::Null), Ok(vec![]));
        assert_eq!(arguments("ds_list", json!({ "full": "1" })), Ok(vec![("full", json!("1"))]));
        assert_eq!(arguments("ds_list", json!([1, "default"])).map(|all| all.len()), Ok(2));
        for (command, params, data) in [
            ("ds_list", json!(["1"]), "Ambiguous call, use named parameters instead"),
            ("ds_list", json!({ "all": 1 }), "Named parameters do not match"),
            ("ds_list", json!([1, 2, 3]), "Too few or too many parameters"),
            ("ds_list", json!({ "full": 1, "partition": "default", "x": 1 }), "Too few or too many parameters"),
            ("ds_set_state", Value::Null, "Too few or too many parameters"),
            ("ds_set_state", json!({ "state": "i", "group": 19, "uri": "sip:a" }), "Named parameters do not match"),
            ("ds_reload", json!(["default"]), "Ambiguous call, use named parameters instead"),
        ] {
            assert_eq!(arguments(command, params), Err(data.to_owned()), "{command}");
        }
    }

    #[test]
    fn a_number_may_be_text_and_text_a_number_and_nothing_else() {
        let of = |value: Value| Arguments(vec![("full", value)]);
        assert_eq!((of(json!("1")).number("full"), of(json!(0)).number("full")), (Ok(Some(1)), Ok(Some(0))));
        assert_eq!((of(json!(19)).text("full"), of(json!(19)).text("other")), (Ok(Some("19".to_owned())), Ok(None)));
        let bad = || invalid("Bad type for parameter 'full'");
        assert_eq!((of(json!("x")).number("full"), of(json!([1])).number("full")), (Err(bad()), Err(bad())));
        assert_eq!((of(Value::Null).text("full"), of(json!(1.5)).text("full")), (Err(bad()), Err(bad())));
    }

    #[test]
    fn states_are_told_by_their_first_letter_or_the_interfaces_own_number() {
        for (states, told) in [
            (["0", "i", "Inactive"], Some(Wanted::Off)),
            (["1", "A", "active"], Some(Wanted::In)),
            (["2", "p", "Probing"], Some(Wanted::Failed)),
            (["", "3", "ready"], None),
        ] {
            assert_eq!(states.map(wanted), [told; 3], "{states:?}");
        }
    }

    #[test]
    fn which_names_the_commands_and_their_parameters() {
        let which = |command| match which(command) {
            Ok(answer) => serde_json::to_string(&answer).expect("JSON"),
            Err(fault) => format!("{} {}", fault.code, fault.message),
        };
        let names = r#"["dispatcher:list","ds_list","dispatcher:reload","ds_reload","dispatcher:set_state","ds_set_state","which"]"#;
        assert_eq!(which(None), names);
        assert_eq!(which(Some("dispatcher:")), r#"["dispatcher:list","dispatcher:reload","dispatcher:set_state"]"#);
        assert_eq!(which(Some("ds_list")), r#"[[],["partition"],["full"],["full","partition"]]"#);
        assert_eq!(
            (which(Some("dlg_list")), which(Some("dialog:"))),
            ("404 unknown MI command".to_owned(), "404 unknown MI command".to_owned())
        );
    }
}
