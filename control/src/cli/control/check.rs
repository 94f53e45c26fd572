//! Texts of flags as what they mean, or as mistakes.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use ambit_core::addr::is_dns_name;

/// All that is wrong so far.
#[derive(Default)]
pub(super) struct Check {
    pub(super) mistakes: Vec<String>,
}

impl Check {
    pub(super) fn wrong(&mut self, flag: &str, what: impl Display) {
        self.mistakes.push(format!("{flag}: {what}"));
    }

    pub(super) fn ok<T>(&mut self, flag: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|error| self.wrong(flag, error)).ok()
    }

    pub(super) fn parse<T: FromStr>(&mut self, flag: &str, text: &str, form: &str) -> Option<T> {
        self.ok(
            flag,
            text.parse().map_err(|_| format!("{text:?} is not {form}")),
        )
    }

    pub(super) fn not_empty(&mut self, flag: &str, text: &str) {
        if text.is_empty() {
            self.wrong(flag, "is empty");
        }
    }
}

pub(super) fn is_host(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || is_dns_name(name)
}

/// `90s`, `15m` or `24h`: at least a second, at most ten years.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is not a number and s, m or h, such as 24h");
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        _ => return Err(error()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| error())?;
    let seconds = number.checked_mul(unit).ok_or_else(error)?;
    if !(1..=10 * 365 * 24 * 3600).contains(&seconds) {
        return Err(format!("{text:?} is not between 1s and 87600h"));
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("10s", Some(10)),
            ("15m", Some(900)),
            ("24h", Some(86_400)),
            ("0s", None),
            ("24", None),
            ("h", None),
            ("-1h", None),
            ("1d", None),
            ("", None),
            ("1é", None),
            ("99999999999999999999h", None),
            ("9999999h", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
    }
}
