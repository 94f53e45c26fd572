//! UTC timestamps with microseconds, `2026-01-31T12:00:00.000001Z`.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in ASCII. A time before 1970 is that year's first; of a year the last four digits count.
pub(crate) type Stamp = [u8; 27];

/// Writes the time of day now.
pub(super) fn write_now(out: &mut impl Write) -> fmt::Result {
    let stamp = stamp(SystemTime::now());
    out.write_str(std::str::from_utf8(&stamp).unwrap_or_default())
}

/// The digits of a point in time. Each line of a log has one: it is put together without the machinery of formats.
pub(crate) fn stamp(at: SystemTime) -> Stamp {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    let mut stamp = *b"0000-00-00T00:00:00.000000Z";
    for (place, value) in [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, of_day / 3600),
        (14..16, of_day / 60 % 60),
        (17..19, of_day % 60),
        (20..26, since_epoch.subsec_micros().into()),
    ] {
        digits(&mut stamp[place], value);
    }
    stamp
}

/// Fills a place with the last digits of a number.
fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01 (proleptic Gregorian calendar), counting years
/// from March so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}
