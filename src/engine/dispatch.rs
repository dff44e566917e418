//! Destination sets: what was loaded, who is fit, and who is next.

mod destination;
mod reload;
mod select;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use slotmap::SlotMap;
use smallvec::SmallVec;

pub use destination::{Destination, DestinationId, Order, Row, RowState, Set, SetId, Sets};
pub use select::{Algorithm, PriorityOrder};

use self::select::{Candidate, Turns};
use crate::engine::sip::Reply;
use crate::engine::snapshot::{DestinationView, SetView};

/// The most failovers that a plan names behind its first choice: nobody waits for more.
pub const MOST_FAILOVERS: usize = 8;

/// How a set chooses and what it answers when it has nobody: one `[[set]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The set that this is for.
    pub set: SetId,
    /// A name for people; empty if none.
    pub name: String,
    /// How the next destination is chosen.
    pub algorithm: Algorithm,
    /// Which priority number comes first.
    pub priority_order: PriorityOrder,
    /// The answer when no destination is fit.
    pub empty_reply: Reply,
}

impl Policy {
    /// What a set without configuration gets: round robin, and the reply of the OpenSIPS script that Tandem replaces.
    pub fn of(set: SetId) -> Self {
        Policy {
            set,
            name: String::new(),
            algorithm: Algorithm::default(),
            priority_order: PriorityOrder::default(),
            empty_reply: Reply::new(480, "MRCP server Unavailable"),
        }
    }
}

/// Whose turn a plan takes: discovery by OPTIONS must not step the turn of INVITEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An initial INVITE's.
    Session,
    /// Any other request's outside a dialog.
    Other,
}

/// Where a request may go, best first; nobody stands in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(SmallVec<[DestinationId; 1 + MOST_FAILOVERS]>);

impl Plan {
    /// The first choice; none if the set has no fit destination.
    pub fn first(&self) -> Option<DestinationId> {
        self.0.first().copied()
    }

    /// Who is tried after the first choice, in order; at most [`MOST_FAILOVERS`].
    pub fn rest(&self) -> &[DestinationId] {
        self.0.get(1..).unwrap_or_default()
    }

    /// All of them, best first.
    pub fn iter(&self) -> impl Iterator<Item = DestinationId> + '_ {
        self.0.iter().copied()
    }

    fn is_full(&self) -> bool {
        self.0.len() > MOST_FAILOVERS
    }
}

/// The load of destinations, which is known elsewhere: dispatch keeps no count of sessions beside the table of them.
pub trait Load {
    /// Live sessions now, pending ones included.
    fn sessions(&self, destination: DestinationId) -> u64;

    /// The most live sessions at any time.
    fn sessions_peak(&self, destination: DestinationId) -> u64;
}

/// All sets.
#[derive(Debug)]
pub struct Dispatch {
    destinations: SlotMap<DestinationId, Destination>,
    sets: BTreeMap<SetId, SetState>,
    /// What a set gets that is neither configured nor loaded.
    unknown: Policy,
    seed: u64,
    by_key: HashMap<(SetId, u32), DestinationId>,
    addresses: HashSet<SocketAddr>,
    ips: HashSet<IpAddr>,
    /// Room for the fit destinations of one plan, kept so that plans allocate nothing.
    fit: Vec<Candidate>,
}

/// What a set has beside its destinations; it outlives reloads.
#[derive(Debug)]
struct SetState {
    policy: Policy,
    configured: bool,
    /// In the order of the table.
    members: Vec<DestinationId>,
    empty: u64,
    session: Turns,
    other: Turns,
}

impl Dispatch {
    /// Sets without destinations. `seed` makes random choices: a start's own, or a test's fixed one.
    pub fn new(policies: Vec<Policy>, seed: u64) -> Self {
        let mut dispatch = Dispatch {
            destinations: SlotMap::with_key(),
            sets: BTreeMap::new(),
            unknown: Policy::of(SetId::default()),
            seed,
            by_key: HashMap::new(),
            addresses: HashSet::new(),
            ips: HashSet::new(),
            fit: Vec::new(),
        };
        for policy in policies {
            let state = dispatch.set_mut(policy.set);
            state.policy = policy;
            state.configured = true;
        }
        dispatch
    }

    /// Puts the fit destinations of the set into `plan` in its algorithm's order, and steps the turn. An unknown set's
    /// plan is empty.
    pub fn plan(&mut self, set: SetId, turn: Turn, plan: &mut Plan) {
        plan.0.clear();
        let Dispatch { destinations, sets, fit, .. } = self;
        let Some(state) = sets.get_mut(&set) else { return };
        fit.clear();
        for &id in &state.members {
            match destinations.get(id) {
                Some(found) if found.is_fit() => {
                    fit.push(Candidate { id, weight: found.row.weight, priority: found.row.priority });
                }
                Some(_) | None => {}
            }
        }
        let turns = match turn {
            Turn::Session => &mut state.session,
            Turn::Other => &mut state.other,
        };
        turns.plan(&state.policy, fit, plan);
    }

    /// A destination; none if it is no longer loaded.
    pub fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.get(id)
    }

    /// The loaded destination of the set whose [`Destination::key`] this is.
    pub fn find(&self, set: SetId, key: u32) -> Option<DestinationId> {
        self.by_key.get(&(set, key)).copied()
    }

    /// The set's policy; [`Policy::of`] with set number 0 for a set that is neither configured nor loaded.
    pub fn policy(&self, set: SetId) -> &Policy {
        self.sets.get(&set).map_or(&self.unknown, |state| &state.policy)
    }

    /// Whether a new request may go there; computed each time, nobody keeps the answer.
    pub fn fit(&self, id: DestinationId) -> bool {
        self.destinations.get(id).is_some_and(Destination::is_fit)
    }

    /// Whether some loaded destination, fit or not, has this address; IPv4 in IPv6's clothes is IPv4.
    pub fn is_destination(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&canonical(address))
    }

    /// Whether some loaded destination, fit or not, has this address, whatever the port.
    pub fn is_destination_ip(&self, ip: IpAddr) -> bool {
        self.ips.contains(&ip.to_canonical())
    }

    /// Counts a request that was sent to the destination.
    pub fn note_selection(&mut self, id: DestinationId, turn: Turn) {
        if let Some(destination) = self.destinations.get_mut(id) {
            match turn {
                Turn::Session => destination.counts.selections += 1,
                Turn::Other => destination.counts.other_selections += 1,
            }
        }
    }

    /// Counts a response from the destination by its class; 100 is hop by hop and says nothing of it.
    pub fn note_response(&mut self, id: DestinationId, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        let counts = self.destinations.get_mut(id).map(|destination| &mut destination.counts);
        if let Some(count) = counts.and_then(|counts| counts.responses.get_mut(class)).filter(|_| status != 100) {
            *count += 1;
        }
    }

    /// Counts a request that found the set without a fit destination.
    pub fn note_empty(&mut self, set: SetId) {
        self.set_mut(set).empty += 1;
    }

    /// What the outside may see: sets by number, their destinations in the table's order. A configured set without rows is
    /// among them.
    pub fn view(&self, load: &dyn Load) -> Vec<SetView> {
        self.sets
            .iter()
            .map(|(&id, state)| SetView {
                id,
                name: state.policy.name.clone(),
                algorithm: state.policy.algorithm.name(),
                empty: state.empty,
                destinations: state
                    .members
                    .iter()
                    .filter_map(|&id| Some(view_destination(id, self.destinations.get(id)?, load)))
                    .collect(),
            })
            .collect()
    }

    fn set_mut(&mut self, set: SetId) -> &mut SetState {
        self.sets.entry(set).or_insert_with(|| SetState::new(set, self.seed))
    }
}

impl SetState {
    fn new(set: SetId, seed: u64) -> Self {
        // Sets draw from streams of their own, so that one's calls do not move another's choices.
        let seed = seed ^ (u64::from(set.0) << 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        SetState {
            policy: Policy::of(set),
            configured: false,
            members: Vec::new(),
            empty: 0,
            session: Turns::new(seed),
            other: Turns::new(!seed),
        }
    }
}

fn view_destination(id: DestinationId, destination: &Destination, load: &dyn Load) -> DestinationView {
    let Destination { row, order, counts, .. } = destination;
    DestinationView {
        id,
        row: row.row,
        uri: row.uri.clone(),
        description: row.description.clone(),
        weight: row.weight,
        priority: row.priority,
        order: *order,
        fit: destination.is_fit(),
        selections: counts.selections,
        other_selections: counts.other_selections,
        responses: counts.responses,
        sessions: load.sessions(id),
        sessions_peak: load.sessions_peak(id),
    }
}

/// One address in one form: a listener of both families tells IPv4 peers as `::ffff:a.b.c.d`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
