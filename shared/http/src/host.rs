//! Whom a request is for: `Host`, or `:authority` (RFC 9110 section 7.2).

use std::net::Ipv6Addr;

use bytestring::ByteString;

/// A host and an optional port. Names are compared in lower case and without a trailing dot. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    authority: ByteString,
    name: Name,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// The authority begins with it, that many bytes long.
    Written(usize),
    /// The authority has it in another form.
    Rewritten(ByteString),
}

/// Why a host is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing.
    #[error("the host is empty")]
    Empty,
    /// `user@host`.
    #[error("the host has user information")]
    UserInfo,
    /// A character that no host has.
    #[error("the host has a character that no host has")]
    Character,
    /// Not a number from 1 to 65535.
    #[error("the host has a port that is none")]
    Port,
}

impl Host {
    /// Reads `NAME[:PORT]`, `IPV4[:PORT]` or `[IPV6][:PORT]`. A name that is in lower case is not copied.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, HostError> {
        let authority: ByteString = text.into();
        let text: &str = &authority;
        if text.bytes().any(|byte| byte == b'@') {
            return Err(HostError::UserInfo);
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (literal, port) = rest.split_once(']').ok_or(HostError::Character)?;
                let ip: Ipv6Addr = literal.parse().map_err(|_| HostError::Character)?;
                (Name::Rewritten(format!("[{ip}]").into()), port)
            }
            None => {
                let at = text.bytes().position(|byte| byte == b':');
                let (name, port) = text.split_at(at.unwrap_or(text.len()));
                let name = without_dot(name)?;
                let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    true => Name::Rewritten(name.to_ascii_lowercase().into()),
                    false => Name::Written(name.len()),
                };
                (name, port)
            }
        };
        if name == Name::Written(0) {
            return Err(HostError::Empty);
        }
        let port = port_of(port)?;
        Ok(Self {
            authority,
            name,
            port,
        })
    }

    /// As it was sent.
    #[must_use]
    pub fn authority(&self) -> &ByteString {
        &self.authority
    }

    /// In lower case, without port and trailing dot; an IPv6 address in brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.name {
            Name::Written(length) => &self.authority[..*length],
            Name::Rewritten(name) => name,
        }
    }

    /// The port, when one was named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether two ways to say it mean the same host and port.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        (self.name(), self.port) == (other.name(), other.port)
    }
}

/// A name without the dot at its end.
fn without_dot(name: &str) -> Result<&str, HostError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !name.bytes().all(known) {
        return Err(HostError::Character);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    // An empty label: some strip one dot of `a..`, others all.
    if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(HostError::Character);
    }
    Ok(name)
}

fn port_of(text: &str) -> Result<Option<u16>, HostError> {
    let Some(digits) = text.strip_prefix(':') else {
        return text.is_empty().then_some(None).ok_or(HostError::Character);
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HostError::Port);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(HostError::Port),
        Ok(port) => Ok(Some(port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, name, port) in [
            ("secret.com", "secret.com", None),
            ("Secret.COM", "secret.com", None),
            ("secret.com.", "secret.com", None),
            ("secret.com.:80", "secret.com", Some(80)),
            ("a_b-c.x:65535", "a_b-c.x", Some(65535)),
            ("10.0.0.1:1", "10.0.0.1", Some(1)),
            ("[FD00:0:0::1]:8080", "[fd00::1]", Some(8080)),
            ("[::1]", "[::1]", None),
        ] {
            let host = Host::parse(text).expect(text);
            assert_eq!((host.name(), host.port()), (name, port), "{text}");
            assert_eq!(host.authority(), text);
        }
    }

    #[test]
    fn what_is_none() {
        use HostError as E;
        for (text, error) in [
            ("", E::Empty),
            (".", E::Empty),
            (":80", E::Empty),
            ("x@secret.com", E::UserInfo),
            ("a b", E::Character),
            ("a/b", E::Character),
            ("a,b", E::Character),
            ("a..", E::Character),
            ("a..b", E::Character),
            (".a", E::Character),
            ("a%2e", E::Character),
            ("[::1", E::Character),
            ("[::1]x", E::Character),
            ("[fe80::1%25eth0]", E::Character),
            ("::1", E::Empty),
            ("a:", E::Port),
            ("a:0", E::Port),
            ("a:+1", E::Port),
            ("a:65536", E::Port),
            ("a:1:2", E::Port),
        ] {
            assert_eq!(Host::parse(text), Err(error), "{text}");
        }
    }
}
