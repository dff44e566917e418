//! What rows say in their `attrs` column, as users of OpenSIPS and Kamailio have it: `weight=50;duid=srv1;maxload=30`.

use super::Row;

/// The names that a set reads; one that it does not name is only passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Whose number is the weight instead of the column's: Kamailio's `weight` or `rweight`.
    pub weight: Option<String>,
    /// Whose text people are shown instead of the description: Kamailio's `duid`.
    pub name: Option<String>,
}

impl Attrs {
    /// The row with what its `attrs` say in place.
    pub(super) fn apply(&self, mut row: Row) -> Row {
        if let Some(weight) = self.weight.as_deref().and_then(|name| number(&row.attrs, name)) {
            row.weight = weight;
        }
        if let Some(name) = self.name.as_deref().and_then(|name| value(&row.attrs, name)) {
            row.description = name.to_owned();
        }
        row
    }
}

/// The number of `name=number` in `attrs`; none if it is none.
pub(super) fn number(attrs: &str, name: &str) -> Option<u32> {
    value(attrs, name)?.parse().ok()
}

/// The text of `name=text` in `attrs`, whose parts lie between semicolons, commas or white space.
fn value<'a>(attrs: &'a str, name: &str) -> Option<&'a str> {
    let parts = attrs.split(|mark: char| matches!(mark, ';' | ',') || mark.is_whitespace());
    parts.filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dispatch::RowState;
    use crate::engine::flow::Transport;

    #[test]
    fn the_attrs_that_a_set_names_take_the_columns_place() {
        let row = |attrs: &str| Row {
            row: 1,
            uri: "sip:h".into(),
            address: ([127, 0, 0, 1], 7010).into(),
            transport: Transport::Udp,
            socket: None,
            weight: 1,
            priority: 0,
            state: RowState::Active,
            attrs: attrs.into(),
            description: "a server".into(),
        };
        let read = |attrs: &Attrs, text| {
            let row = attrs.apply(row(text));
            (row.weight, row.description)
        };
        let kamailio = Attrs { weight: Some("rweight".into()), name: Some("duid".into()) };
        let text = "duid=srv1;weight=50;rweight=30;maxload=9";
        assert_eq!(read(&kamailio, text), (30, "srv1".to_owned()));
        assert_eq!(read(&Attrs::default(), text), (1, "a server".to_owned()));
        assert_eq!(read(&kamailio, "rweight=many"), (1, "a server".to_owned()), "the column's own");
    }
}
