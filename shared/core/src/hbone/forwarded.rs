//! The `forwarded` header (RFC 7239) as HBONE uses it: the original client and the service it
//! dialled.

use std::fmt;
use std::net::SocketAddr;

/// Longer headers are not read.
const MAX_LEN: usize = 4096;

/// The first element of a `forwarded` header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// `for`: the original client.
    pub client: Option<SocketAddr>,
    /// `host`: the service that was dialled.
    pub host: Option<String>,
}

impl Forwarded {
    /// Reads what it can; parameters that are not understood are skipped. Never an error: the
    /// header serves telemetry only.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        let mut forwarded = Self::default();
        if header.len() > MAX_LEN {
            return forwarded;
        }
        let element = split_unquoted(header, ',').next().unwrap_or_default();
        for parameter in split_unquoted(element, ';') {
            let Some((name, value)) = parameter.split_once('=') else {
                continue;
            };
            let value = unquoted(value.trim());
            let name = name.trim();
            if name.eq_ignore_ascii_case("for") && forwarded.client.is_none() {
                forwarded.client = value.parse().ok();
            } else if name.eq_ignore_ascii_case("host") && forwarded.host.is_none() {
                forwarded.host =
                    Some(value).filter(|host| !host.is_empty() && host.chars().all(is_text));
            }
        }
        forwarded
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(f, "for=\"{client}\"")?;
        }
        let Some(host) = &self.host else {
            return Ok(());
        };
        if self.client.is_some() {
            f.write_str(";")?;
        }
        if !host.is_empty() && host.bytes().all(is_token) {
            return write!(f, "host={host}");
        }
        f.write_str("host=\"")?;
        for c in host.chars().filter(|c| is_text(*c)) {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

/// What a quoted string of a header can hold.
fn is_text(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

/// A token character of RFC 9110.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    })
}

fn unquoted(text: &str) -> String {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else {
        return text.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    plain
}
