//! `/store`, `/plan`, `/reload` and `/rollback`: what of the rows is in place, what a reload would do, and an operator's word.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time;

use super::access::{Asker, Role};
use super::routes::{Need, Routes};
use super::sets::{Refusal, body_of};
use super::{Node, RELOAD, Shared, because, error, too_late};
use crate::edge::moment::Moment;

/// The longest reason or name, in bytes.
const LONGEST: usize = 256;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new()
        .get("/store", Need::Role(Role::Read), store::<N>)
        .get("/plan", Need::Role(Role::Operate), plan::<N>)
        .post("/reload", Role::Operate, reload::<N>)
        .post("/rollback", Role::Admin, rollback::<N>)
}

/// An order to read the rows and put them in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadOrder {
    /// Who gives it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Whatever it takes out.
    #[serde(default)]
    pub force: bool,
    /// Of that partition alone.
    #[serde(default)]
    pub partition: Option<String>,
    /// Only if these rows are in place, by their digest, as `/plan` tells it: in that partition, or in `default`.
    #[serde(default)]
    pub expected: Option<String>,
}

impl ReloadOrder {
    /// An order of somebody who needs no reason.
    pub fn of(by: &str) -> Self {
        ReloadOrder { by: by.to_owned(), ..ReloadOrder::default() }
    }
}

/// An order to serve a former version instead of the rows, or to end that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackOrder {
    /// Who gives it.
    #[serde(default)]
    pub by: String,
    /// Why; with a version somebody will wonder.
    #[serde(default)]
    pub reason: String,
    /// The version's number, or what its digest begins with; none: what is pinned is pinned no more.
    #[serde(default)]
    pub version: Option<String>,
    /// Whatever it takes out.
    #[serde(default)]
    pub force: bool,
    /// Of which partition; none: `default`.
    #[serde(default)]
    pub partition: Option<String>,
    /// Only if these rows are in place, by their digest.
    #[serde(default)]
    pub expected: Option<String>,
}

/// A reload that took effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Destinations that are new.
    pub added: usize,
    /// Destinations that are gone.
    pub removed: usize,
    /// Destinations that differ.
    pub changed: usize,
    /// Rows that were skipped (`lenient`), each with what to do.
    pub faults: Vec<String>,
    /// What is in place now.
    pub partitions: Vec<PartitionReport>,
}

/// A reload that left the sets as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadFailed {
    /// What happened.
    pub error: String,
    /// Every row at fault, each with what to do.
    pub faults: Vec<String>,
    /// What only force would put in place; empty if that is not why.
    pub refused: Vec<String>,
    /// Whether other rows are in place than were expected.
    #[serde(skip)]
    pub overtaken: bool,
}

/// What is in place, and what was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// The node's name.
    pub node: String,
    /// `[database]` is the one that is called `default`.
    pub partitions: Vec<PartitionReport>,
}

/// What of a source is in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// The partition's name.
    pub partition: String,
    /// The database and the table, or the file, without any password.
    pub source: String,
    /// Whether the last read succeeded and its rows could be used.
    pub ok: bool,
    /// When its rows were read last.
    pub read: Option<Moment>,
    /// The version that is in place, by its number on this node.
    pub version: Option<u64>,
    /// What its rows say: the same on every node.
    pub digest: Option<String>,
    /// A former version is served instead of the rows.
    pub pinned: Option<PinReport>,
    /// What was found, and is not put in place without force.
    pub refused: Vec<String>,
    /// What is wrong with the source or its rows.
    pub faults: Vec<String>,
    /// The versions that are kept, oldest first.
    pub versions: Vec<VersionReport>,
}

/// A version that is served instead of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinReport {
    /// Its number on this node.
    pub version: String,
    /// What the rows say that it is served instead of.
    pub instead_of: String,
    /// Who went back to it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Moment,
}

/// A version of a source's rows that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    /// Its number on this node.
    pub number: u64,
    /// What its rows say: the same on every node.
    pub digest: String,
    /// When it took effect.
    pub at: Moment,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many destinations it has.
    pub destinations: usize,
    /// Whether it is in place.
    pub in_place: bool,
}

/// What a reload would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The node's name.
    pub node: String,
    /// Of each partition.
    pub partitions: Vec<PartitionPlan>,
}

/// What a reload of one partition would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// The partition's name.
    pub partition: String,
    /// The database and the table, or the file, without any password.
    pub source: String,
    /// The version that is in place, by its number on this node.
    pub version: Option<u64>,
    /// What its rows say.
    pub digest: Option<String>,
    /// What the rows say that were found.
    pub rows: Option<String>,
    /// What would change, by set and URI.
    pub changes: Vec<PlannedChange>,
    /// Why it would be refused without force; empty if it would not.
    pub refused: Vec<String>,
    /// A former version is served instead of the rows, and a reload changes nothing.
    pub pinned: Option<PinReport>,
    /// Rows that would be left out, or that refuse the reload.
    pub faults: Vec<String>,
    /// Why the rows can't be read or used.
    pub error: Option<String>,
}

impl From<PartitionReport> for PartitionPlan {
    fn from(report: PartitionReport) -> Self {
        let PartitionReport { partition, source, version, digest, pinned, .. } = report;
        PartitionPlan { partition, source, version, digest, pinned, ..PartitionPlan::default() }
    }
}

/// What would become of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// The set.
    pub set: u32,
    /// The `destination` column.
    pub uri: String,
    /// What would be another.
    pub fields: Vec<ChangedField>,
    /// Its live sessions on this node: they go on, whatever is planned.
    pub sessions: u64,
}

/// A column of a row that would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedField {
    /// The column.
    pub field: String,
    /// What it says in the version that is in place.
    pub from: String,
    /// What it says now.
    pub to: String,
}

async fn store<N: Node>(State(shared): State<Shared<N>>) -> Response {
    match time::timeout(super::ANSWER, shared.node.store()).await {
        Ok(report) => Json(report).into_response(),
        Err(_) => too_late(),
    }
}

async fn plan<N: Node>(State(shared): State<Shared<N>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let partition = pairs.find(|(name, _)| name == "partition").map(|(_, value)| value.into_owned());
    match time::timeout(RELOAD, shared.node.plan(partition.as_deref())).await {
        Ok(Ok(plan)) => Json(plan).into_response(),
        Ok(Err(failed)) => refused(failed),
        Err(_) => too_late(),
    }
}

/// Without a body it is an order of nobody in particular, as before there were others.
async fn reload<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let order = match &body {
        Ok(body) if body.is_empty() => ReloadOrder::of(&asker.token().map_or("http".to_owned(), str::to_owned)),
        Ok(_) | Err(_) => {
            let order: ReloadOrder = read(&headers, body)?;
            ReloadOrder { by: asker.giver(&order.by), ..order }
        }
    };
    asker.orders(&order.by, &order.reason, told_of(order.force, order.partition.as_deref(), None));
    words(&[("by", &order.by, true), ("reason", &order.reason, false)])?;
    if order.force {
        asker.needs(Role::Admin)?;
    }
    Ok(carry_out(&shared, move |node| async move { node.reload(order).await }).await)
}

async fn rollback<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let order: RollbackOrder = read(&headers, body)?;
    let order = RollbackOrder { by: asker.giver(&order.by), ..order };
    let version = order.version.as_deref().unwrap_or("none");
    asker.orders(&order.by, &order.reason, told_of(order.force, order.partition.as_deref(), Some(version)));
    words(&[("by", &order.by, true), ("reason", &order.reason, order.version.is_some())])?;
    Ok(carry_out(&shared, move |node| async move { node.rollback(order).await }).await)
}

/// For the log.
fn told_of(force: bool, partition: Option<&str>, version: Option<&str>) -> String {
    let parts =
        [version.map(|version| format!("version {version}")), partition.map(|name| format!("partition {name}"))];
    let force = force.then(|| "forced".to_owned());
    parts.into_iter().flatten().chain(force).collect::<Vec<_>>().join(", ")
}

fn read<T: for<'d> Deserialize<'d>>(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body_of(headers, body)?;
    serde_json::from_slice(&body)
        .map_err(|fault| Refusal(StatusCode::BAD_REQUEST, format!("the order is not one: {fault}")))
}

/// Whether what people are to read later is there, and no longer than they read.
fn words(all: &[(&str, &String, bool)]) -> Result<(), Refusal> {
    for (name, text, needed) in all {
        let problem = match text.len() {
            0 if *needed => format!("{name} is empty: say it, for those who will wonder"),
            length if length > LONGEST => format!("{name} is {length} bytes: give {LONGEST} at most"),
            _ => continue,
        };
        return Err(Refusal(StatusCode::BAD_REQUEST, problem));
    }
    Ok(())
}

/// In a task of its own, so that a client that hangs up does not leave it half done; never two at once.
async fn carry_out<N: Node, F>(
    shared: &Shared<N>,
    order: impl FnOnce(std::sync::Arc<N>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Result<Reloaded, ReloadFailed>> + Send,
{
    let shared = shared.clone();
    let task = tokio::spawn(async move {
        let _one_at_a_time = shared.reload.lock().await;
        order(shared.node).await
    });
    match time::timeout(RELOAD, task).await {
        Ok(Ok(Ok(reloaded))) => Json(reloaded).into_response(),
        Ok(Ok(Err(failed))) => refused(failed),
        Ok(Err(_)) => error(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off; the log tells why"),
        Err(_) => too_late(),
    }
}

fn refused(failed: ReloadFailed) -> Response {
    let status = match (failed.overtaken, failed.refused.is_empty()) {
        (true, _) => StatusCode::PRECONDITION_FAILED,
        (false, true) => StatusCode::UNPROCESSABLE_ENTITY,
        (false, false) => StatusCode::CONFLICT,
    };
    let cause = std::iter::once(&failed.error).chain(&failed.refused).chain(&failed.faults).take(4);
    let cause = cause.map(String::as_str).collect::<Vec<_>>().join("; ");
    because(&cause, (status, Json(failed)))
}
