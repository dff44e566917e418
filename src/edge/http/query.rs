//! What stands behind a path's question mark.

use std::borrow::Cow;

use axum::http::StatusCode;

use super::sets::Refusal;

/// One of it: a name and its value.
pub(super) struct Wish<'q> {
    pub(super) key: Cow<'q, str>,
    pub(super) value: Cow<'q, str>,
}

/// All of it, in order.
pub(super) fn wishes(query: &str) -> impl Iterator<Item = Wish<'_>> {
    form_urlencoded::parse(query.as_bytes()).map(|(key, value)| Wish { key, value })
}

impl Wish<'_> {
    /// It can't be had; what to give instead.
    pub(super) fn refused(&self, remedy: &str) -> Refusal {
        Refusal(StatusCode::BAD_REQUEST, format!("{} is {:?}: {remedy}", self.key, self.value))
    }

    /// Its number.
    pub(super) fn number<T: std::str::FromStr>(&self) -> Result<T, Refusal> {
        self.value.parse().map_err(|_| self.refused("give a number, from 0"))
    }

    /// Its number, from 1 to that.
    pub(super) fn number_to(&self, most: usize) -> Result<usize, Refusal> {
        let number = self.value.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| self.refused(&format!("give a number from 1 to {most}")))
    }
}
