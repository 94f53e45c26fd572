//! Single values of a policy: parsed here, or refused with what to write instead.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::model::{ServiceAccountMatch, StringMatch};
use http::HeaderName;
use ipnet::IpNet;

/// `x`, `x*`, `*x` or `*`.
///
/// # Errors
/// An empty text, or a `*` elsewhere.
pub fn text(value: &str) -> Result<StringMatch, String> {
    let wildcard_only_at_an_end = |rest: &str| {
        if rest.is_empty() || rest.contains('*') {
            let what = "is not of the form x, x*, *x or *";
            return Err(format!("{value:?} {what}"));
        }
        Ok(Arc::from(rest))
    };
    if value == "*" {
        Ok(StringMatch::Presence)
    } else if let Some(rest) = value.strip_prefix('*') {
        wildcard_only_at_an_end(rest).map(StringMatch::Suffix)
    } else if let Some(rest) = value.strip_suffix('*') {
        wildcard_only_at_an_end(rest).map(StringMatch::Prefix)
    } else {
        wildcard_only_at_an_end(value).map(StringMatch::Exact)
    }
}

/// A principal: a [`text`] without `spiffe://`.
///
/// # Errors
/// As [`text`], and a value that starts with `spiffe://` and could never match.
pub fn principal(value: &str) -> Result<StringMatch, String> {
    if let Some(rest) = value.strip_prefix("spiffe://") {
        return Err(format!("{value:?} never matches; write {rest:?}"));
    }
    text(value)
}

/// An address or a range.
///
/// # Errors
/// Anything else.
pub fn network(value: &str) -> Result<IpNet, String> {
    if let Ok(ip) = value.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    value
        .parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| format!("{value:?} is not an IP address or range such as 10.0.0.0/8"))
}

/// A port.
///
/// # Errors
/// Anything but 1-65535.
pub fn port(value: &str) -> Result<u16, String> {
    value
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("{value:?} is not a port, 1-65535"))
}

/// `NAMESPACE/NAME`, or `NAME` in the policy's namespace.
///
/// # Errors
/// Anything else.
pub fn service_account(value: &str, namespace: &str) -> Result<ServiceAccountMatch, String> {
    let (namespace, name) = value.split_once('/').unwrap_or((namespace, value));
    if namespace.is_empty() || name.is_empty() || name.contains('/') || value.contains('*') {
        let what = "is not a service account: write NAMESPACE/NAME or NAME";
        return Err(format!("{value:?} {what}"));
    }
    Ok(ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: name.into(),
    })
}

/// What is wrong with the key of a condition that is none.
#[must_use]
pub fn unknown_key(key: &str) -> String {
    format!(
        "{key:?} is no attribute: write source.ip, source.namespace, source.principal, source.serviceAccount, remote.ip, \
         destination.ip, destination.port, connection.sni, request.headers[NAME], request.auth.principal, \
         request.auth.audiences, request.auth.presenter or request.auth.claims[NAME]"
    )
}

/// A duration of Gateway API (GEP-2257): one to four numbers of at most five digits, each with `h`, `m`,
/// `s` or `ms`.
///
/// # Errors
/// Anything else.
pub fn duration(value: &str) -> Result<Duration, String> {
    let wrong = || format!("{value:?} is not a duration such as 1h30m, 10s or 250ms");
    let mut rest = value;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return Err(wrong());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..];
        let (millis, length) = match unit.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b'h', ..] => (3_600_000, 1),
            [b'm', ..] => (60_000, 1),
            [b's', ..] => (1000, 1),
            _ => return Err(wrong()),
        };
        total += Duration::from_millis(number * millis);
        rest = &unit[length..];
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(wrong())
}

/// A header's name.
///
/// # Errors
/// It cannot be one.
pub fn header(value: &str) -> Result<HeaderName, String> {
    value
        .parse()
        .map_err(|_| format!("{value:?} is not the name of a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        use StringMatch as S;
        let cases = [
            ("*", Some(S::Presence)),
            ("a", Some(S::Exact("a".into()))),
            ("a*", Some(S::Prefix("a".into()))),
            ("*a", Some(S::Suffix("a".into()))),
            ("", None),
            ("**", None),
            ("a*b", None),
            ("*a*", None),
        ];
        for (value, expected) in cases {
            assert_eq!(text(value).ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn others() {
        assert!(principal("spiffe://td/ns/a/sa/b").is_err());
        let nets = [
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("", None),
        ];
        for (value, expected) in nets {
            let expected = expected.map(|net| net.parse().expect("a range"));
            assert_eq!(network(value).ok(), expected, "{value:?}");
        }
        for (value, good) in [
            ("1", true),
            ("65535", true),
            ("0", false),
            ("65536", false),
            ("http", false),
            ("", false),
        ] {
            assert_eq!(port(value).is_ok(), good, "{value:?}");
        }
        let account = |namespace: &str, name: &str| {
            Some(ServiceAccountMatch {
                namespace: namespace.into(),
                service_account: name.into(),
            })
        };
        let accounts = [
            ("web", account("here", "web")),
            ("shop/web", account("shop", "web")),
            ("a/b/c", None),
            ("/web", None),
            ("shop/*", None),
            ("", None),
        ];
        for (value, expected) in accounts {
            assert_eq!(service_account(value, "here").ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("1m", Some(60_000)),
            ("1h30m10s5ms", Some(5_410_005)),
            ("10m10ms", Some(600_010)),
            ("99999h", Some(359_996_400_000)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1us", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
            ("1s ", None),
        ];
        for (value, millis) in cases {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(duration(value).ok(), expected, "{value:?}");
        }
    }
}
