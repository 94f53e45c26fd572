//! Durations and sizes as people write them on a command line or in a query.

use std::time::Duration;

/// Why a duration or a size could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number followed by one of the known time units.
    #[error(
        "{0:?} is not a duration: write a number and a unit, one of us, ms, s, m, h (for example 250ms)"
    )]
    Duration(String),
    /// Not a number followed by one of the known size suffixes.
    #[error(
        "{0:?} is not a size: write a number of bytes, with a suffix k, M, G, Ki, Mi or Gi if wanted (for example 64Ki)"
    )]
    Size(String),
}

/// Reads a duration such as `250ms`, `1.5s` or `2m`. A bare number is refused: nobody can tell what it counts.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let refused = || UnitError::Duration(text.to_owned());
    let (number, unit) = split_number(text);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| refused())
}

/// Reads a size in bytes such as `512`, `64Ki`, `1Gi` or `10M`; a trailing `B` is allowed.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let refused = || UnitError::Size(text.to_owned());
    let (number, suffix) = split_number(text);
    let scale: u64 = match suffix.strip_suffix('B').unwrap_or(suffix) {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    number.checked_mul(scale).ok_or_else(refused)
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("40us", Some(Duration::from_micros(40))),
            ("10", None),
            ("", None),
            ("ms", None),
            ("-1s", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64Ki", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("10M", Some(10_000_000)),
            ("1Gi", Some(1 << 30)),
            ("1.5Gi", None),
            ("1T", None),
            ("99999999999999999999", None),
            ("18446744073709551615k", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
