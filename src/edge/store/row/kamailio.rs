//! What Kamailio's dispatcher means by `flags` and by some of its `attrs`.

use super::{Column, Judge, MAX_WEIGHT, ProbeWish, Target};
use crate::engine::dispatch::RowState;
use crate::engine::flow::ListenerId;

/// It failed.
const INACTIVE: u32 = 1;
/// It has failed some probes, not yet enough.
const TRYING: u32 = 2;
/// An operator has switched it off.
const DISABLED: u32 = 4;
/// It is to be probed.
const PROBING: u32 = 8;
/// Its host is not looked up.
const NO_DNS: u32 = 16;
/// It is not to be probed.
const NO_PING: u32 = 32;
const ALL: u32 = INACTIVE | TRYING | DISABLED | PROBING | NO_DNS | NO_PING;

impl Judge<'_> {
    /// The state that `flags` begin with. Who is trying takes calls there, and so it does here.
    pub(super) fn flags(&mut self) -> RowState {
        match self.number(Column::Flags, 0, 0..=ALL, "0").unwrap_or_default() {
            flags if flags & DISABLED != 0 => RowState::Inactive,
            flags if flags & INACTIVE != 0 => RowState::Probing,
            _ => RowState::Active,
        }
    }

    /// What `flags` say of probes. A fault is told by the state.
    pub(super) fn flags_of_probes(&self) -> Option<ProbeWish> {
        let text = std::str::from_utf8(self.raw.cell(Column::Flags)).unwrap_or_default();
        match text.trim().parse::<u32>().unwrap_or_default() {
            flags if flags & NO_PING != 0 => Some(ProbeWish::Never),
            flags if flags & PROBING != 0 => Some(ProbeWish::Always),
            _ => None,
        }
    }

    /// `rweight=50` in `attrs`, else `weight=50`, else 1.
    pub(super) fn kamailio_weight(&mut self) -> u32 {
        let attrs = self.text(Column::Attrs);
        let Some((name, text)) = ["rweight", "weight"].iter().find_map(|name| Some((name, attr(&attrs, name)?))) else {
            return 1;
        };
        let number = text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
        if number.is_none() {
            let problem = format!("where {name} is {text:?}");
            self.fault(Column::Attrs, problem, format!("give a whole number from 0 to {MAX_WEIGHT}, e.g. {name}=50"));
        }
        number.unwrap_or_default()
    }

    /// `socket=udp:10.0.0.1:5060` in `attrs`.
    pub(super) fn kamailio_socket(&mut self, target: Option<Target>) -> Option<ListenerId> {
        let attrs = self.text(Column::Attrs);
        self.listener_of(Column::Attrs, attr(&attrs, "socket").unwrap_or_default(), target)
    }
}

/// The value of `name=value` among parts that lie between semicolons, without its quotes.
fn attr<'a>(attrs: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = attrs.split(';').filter_map(|part| part.split_once('='));
    let value = parts.find(|(key, _)| key.trim() == name)?.1.trim();
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::super::{Form, Names, RawRow, RowContext, Strictness, judge};
    use crate::edge::store::{AskedProbe, ProbeWish};
    use crate::engine::dispatch::{Row, RowState, SetId};
    use crate::engine::flow::{Listener, ListenerId, Role, Transport};

    fn one(flags: &str, attrs: &str) -> Result<(Row, Vec<AskedProbe>), Vec<String>> {
        let bind: std::net::SocketAddr = "10.0.0.1:8060".parse().expect("an address");
        let listeners = [Listener {
            id: ListenerId(0),
            transport: Transport::Udp,
            bind,
            advertise: bind.into(),
            role: Role::Node,
            sources: Default::default(),
        }];
        let names = Names::new(Form::Kamailio, "dispatcher", |_| None);
        let mut row = RawRow { id: 7, ..RawRow::default() };
        for (column, cell) in Form::Kamailio.columns().zip(["1", "sip:10.0.0.9", flags, "5", attrs, "TTS"]) {
            row.put(column.0, cell);
        }
        let context = RowContext { listeners: &listeners, strictness: Strictness::Strict, set_offset: 0 };
        let load = judge(&names, &[row], &context);
        let load = load.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok((load.sets.0[0].rows[0].clone(), load.probes))
    }

    #[test]
    fn flags_are_a_state_and_a_wish_to_be_probed() {
        for (flags, state, wish) in [
            ("", RowState::Active, None),
            ("0", RowState::Active, None),
            ("1", RowState::Probing, None),
            ("2", RowState::Active, None),
            ("4", RowState::Inactive, None),
            ("5", RowState::Inactive, None),
            ("8", RowState::Active, Some(ProbeWish::Always)),
            ("9", RowState::Probing, Some(ProbeWish::Always)),
            ("16", RowState::Active, None),
            ("32", RowState::Active, Some(ProbeWish::Never)),
            ("40", RowState::Active, Some(ProbeWish::Never)),
        ] {
            let (row, probes) = one(flags, "").expect(flags);
            assert_eq!(row.state, state, "{flags}");
            let uri = "sip:10.0.0.9".to_owned();
            let asked: Vec<_> = wish.map(|wish| AskedProbe { set: SetId(1), uri, wish }).into_iter().collect();
            assert_eq!(probes, asked, "{flags}");
        }
        for bad in ["64", "-1", "AP"] {
            let faults = one(bad, "").expect_err(bad);
            assert!(faults.len() == 1 && faults[0].starts_with("dispatcher row 7: flags is"), "{faults:?}");
        }
    }

    #[test]
    fn attrs_hold_weight_and_socket_and_stay_as_they_are() {
        for (attrs, weight, socket) in [
            ("", 1, None),
            ("duid=a;maxload=100", 1, None),
            ("duid=a;weight=30", 30, None),
            ("weight=30;rweight=50", 50, None),
            ("rweight=\"50\"; socket = udp:10.0.0.1:8060", 50, Some(ListenerId(0))),
            ("sockname=other;myweight=3;weight=0", 0, None),
        ] {
            let (row, _) = one("0", attrs).expect(attrs);
            assert_eq!((row.weight, row.socket, row.attrs.as_str()), (weight, socket, attrs));
            assert_eq!((row.priority, row.description.as_str()), (5, "TTS"));
        }
    }

    #[test]
    fn bad_attrs_are_faults_with_a_remedy() {
        for (attrs, words) in [
            ("weight=many", "where weight is \"many\": give a whole number from 0 to 65535, e.g. weight=50"),
            ("rweight=65536", "where rweight is"),
            ("socket=udp:10.0.0.2:5060", "not one of our listeners: give one of udp:10.0.0.1:8060"),
        ] {
            let faults = one("0", attrs).expect_err(attrs);
            assert!(faults.len() == 1 && faults[0].contains("attrs is") && faults[0].contains(words), "{faults:?}");
        }
    }
}
