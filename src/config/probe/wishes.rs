//! Rows that say themselves when they are to be probed, where the configuration says otherwise: it is what holds.

use std::collections::BTreeMap;

use crate::edge::store::{AskedProbe, ProbeWish};
use crate::engine::dispatch::{CheckKind, Policy, When};

/// Where the two differ, for people: one line for each set, wish and practice.
pub(in crate::config) fn unlike(policies: &[Policy], asked: &[AskedProbe]) -> Vec<String> {
    let mut differ: BTreeMap<_, (usize, &str)> = BTreeMap::new();
    for AskedProbe { set, uri, wish } in asked {
        let policy = policies.iter().find(|policy| policy.set == *set);
        let done = policy.map_or(ProbeWish::Never, |policy| practice(policy, uri));
        if done != *wish {
            differ.entry((*set, words(*wish), words(done))).or_insert((0, uri)).0 += 1;
        }
    }
    let line = |((set, wish, done), (count, uri)): ((crate::engine::dispatch::SetId, _, _), (usize, &str))| {
        let who = if count == 1 { uri.to_owned() } else { format!("{uri} and {} more", count - 1) };
        format!(
            "set {}: {who} asked by the row to be probed {wish} and probed {done}: say it in [set.probe] or a \
             [[set.destination]], which alone hold",
            set.0
        )
    };
    differ.into_iter().map(line).collect()
}

/// How SIP probes of it go.
fn practice(policy: &Policy, uri: &str) -> ProbeWish {
    let probing = policy.probing_of(uri);
    match probing.when {
        _ if !probing.checks.iter().any(|check| matches!(check.kind, CheckKind::Sip(_))) => ProbeWish::Never,
        When::Down => ProbeWish::WhenDown,
        When::Always | When::Idle => ProbeWish::Always,
    }
}

fn words(wish: ProbeWish) -> &'static str {
    match wish {
        ProbeWish::Never => "never",
        ProbeWish::WhenDown => "while down",
        ProbeWish::Always => "always",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::policy;
    use crate::engine::dispatch::SetId;

    fn asked(set: u32, uri: &str, wish: ProbeWish) -> AskedProbe {
        AskedProbe { set: SetId(set), uri: uri.to_owned(), wish }
    }

    #[test]
    fn only_a_difference_is_told_once_for_each_set() {
        let probed = policy("[set.probe]\n[[set.destination]]\nuri = \"sip:b\"\nprobe = { when = \"down\" }\n");
        let told = |asked: &[AskedProbe]| unlike(std::slice::from_ref(&probed), asked);
        let agreed = [
            asked(19, "sip:a", ProbeWish::Always),
            asked(19, "sip:b", ProbeWish::WhenDown),
            asked(20, "sip:c", ProbeWish::Never),
        ];
        assert_eq!(told(&agreed), [""; 0]);
        let differ = [
            asked(19, "sip:a", ProbeWish::Never),
            asked(19, "sip:d", ProbeWish::Never),
            asked(20, "sip:c", ProbeWish::WhenDown),
        ];
        let told = told(&differ);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("set 19: sip:a and 1 more asked by the row to be probed never and probed always: ")
        );
        assert!(told[1].starts_with("set 20: sip:c asked by the row to be probed while down and probed never: "));
    }
}
