//! A moment as text: RFC 3339 in UTC, to the millisecond.

mod calendar;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::calendar::date;

/// A moment of the wall clock; one before 1970 is 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub SystemTime);

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no moment: give one as 2026-11-26T03:20:58Z")]
pub struct BadMoment(String);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (since.as_secs(), since.subsec_millis());
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        read(text).map(Moment).ok_or_else(|| BadMoment(text.to_owned()))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The day since 1970-01-01 of a date: [`date`] turned round.
fn day(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let (era, year) = (year / 400, year % 400);
    (era * 146_097 + year * 365 + year / 4 - year / 100 + of_year).checked_sub(719_468)
}

fn read(text: &str) -> Option<SystemTime> {
    let is_like = |shape: &str| {
        let same = |(is, like)| if like == b'0' { u8::is_ascii_digit(&is) } else { is == like };
        text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(same)
    };
    let millis = match text {
        _ if is_like("0000-00-00T00:00:00Z") => 0,
        _ if is_like("0000-00-00T00:00:00.000Z") => text.get(20..23)?.parse().ok()?,
        _ => return None,
    };
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (month, of_month) = (number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let known = (1..=12).contains(&month) && (1..=31).contains(&of_month) && hour < 24 && minute < 60 && second < 60;
    let days = day(number(0, 4)?, month, of_month).filter(|_| known)?;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(millis: u64) -> Moment {
        Moment(UNIX_EPOCH + Duration::from_millis(millis))
    }

    #[test]
    fn moments_are_written_as_date_says_them() {
        // As of `date --utc --date @...`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_700_000_000, "2023-11-14T22:13:20.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(moment(seconds * 1000).to_string(), text);
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        // Every day and a bit for two hundred years.
        for step in 0..70_000 {
            let moment = moment(step * 90_061_007);
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_an_example() {
        for bad in ["", "now", "2026-11-26T03:20:58", "2026-13-26T03:20:58.000Z", "2026-11-26T24:20:58.000Z"] {
            let error = bad.parse::<Moment>().expect_err(bad).to_string();
            assert!(error.contains("2026-11-26T03:20:58Z"), "{error}");
        }
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(moment(1000)));
    }
}
