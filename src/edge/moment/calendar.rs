//! Dates of days. The build script, which can use nothing else of the crate, takes them from here too.

/// The date of a day since 1970-01-01, as in Howard Hinnant's `civil_from_days`: years begin with March, so that the leap
/// day is the last.
pub(super) fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    match month {
        0..10 => (era * 400 + year, month + 3, of_month),
        _ => (era * 400 + year + 1, month - 9, of_month),
    }
}
