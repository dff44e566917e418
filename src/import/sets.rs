//! What a script and its parameters say of each set: pings within dialogs, their length, and probes.

use super::Peer;
use super::condition::{Literal, Test};
use super::draft::{Ping, Set};
use super::rules::served;
use super::script::{Select, Value, Walker, Worth};

impl Walker<'_> {
    /// Pings and length of a set's sessions.
    pub(super) fn session(&mut self, select: &Select) {
        let Some(flags) = &select.dialog else { return };
        let timeout = self.settings.dialog_timeout;
        let interval = self.settings.dialog_ping;
        // The first whose conditions this call fulfils for sure.
        let served = served(&select.ways);
        let fits = |worth: &&Worth| {
            let holds_in = |way: &Vec<Literal>| {
                worth.ways.iter().any(|when| {
                    when.iter().all(|one| matches!(one.test, Test::Result(_)) || way.iter().any(|two| two.says(one)))
                })
            };
            served.iter().all(holds_in)
        };
        let value = flags.iter().find(fits).map(|worth| worth.value.clone());
        let Some(set) = self.draft.sets.get_mut(&select.set) else { return };
        set.max_duration = set.max_duration.or(timeout);
        if self.peer == Peer::Kamailio {
            return;
        }
        if let Some(Value::Text(flags)) = value {
            let has = |letters: [char; 2]| flags.contains(letters[0]) || flags.contains(letters[1]);
            let to = match (has(['P', 'R']), has(['p', 'r'])) {
                (true, true) => "both",
                (true, false) => "caller",
                (false, true) => "destination",
                (false, false) => return,
            };
            let method = if flags.contains(['P', 'p']) { "OPTIONS" } else { "UPDATE" };
            set.ping = Some(Ping { method, to, interval });
        }
    }

    /// The dispatcher's and the load balancer's probes, and the transactions' times, for each set.
    pub(super) fn probes(&mut self) {
        let settings = self.settings;
        let balanced: Vec<u32> = self
            .draft
            .sets
            .iter()
            .filter(|(_, set)| set.algorithm == "least_load_relative")
            .map(|(id, _)| *id)
            .collect();
        for (id, set) in &mut self.draft.sets {
            let Set { probe, first_response_timeout, final_timeout, .. } = set;
            first_response_timeout.clone_from(&settings.first_response_timeout);
            final_timeout.clone_from(&settings.final_timeout);
            let of = if balanced.contains(id) { &settings.balanced_probe } else { &settings.probe };
            let is_listed =
                balanced.contains(id) || settings.probing_list.as_ref().is_none_or(|list| list.contains(id));
            *probe = (of.interval > 0 && is_listed).then(|| of.clone());
        }
    }
}
