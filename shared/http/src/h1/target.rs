//! The target of a request line (RFC 9112 3.2).

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use http::Method;
use http::uri::Scheme;

use super::error::Fault;

/// What a request line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`, as received: `path` says what it means.
    Origin(Text),
    /// `http://host/path?query`, as to a proxy.
    Absolute {
        #[allow(missing_docs)]
        scheme: Scheme,
        /// `host` or `host:port`, no user information.
        authority: Text,
        /// `/` when there is none; `*` for OPTIONS (RFC 9112 3.2.4).
        path_and_query: Text,
    },
    /// `host:port`, of CONNECT alone.
    Authority(Text),
    /// `*`, of OPTIONS alone.
    Asterisk,
}

impl Target {
    pub(super) fn parse(method: &Method, text: Bytes) -> Result<Self, Fault> {
        let text = Text::new(text)?;
        if *method == Method::CONNECT {
            return match is_authority(&text) {
                true => Ok(Self::Authority(text)),
                false => Err(Fault::Target),
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Origin(text));
        }
        if &*text == "*" && *method == Method::OPTIONS {
            return Ok(Self::Asterisk);
        }
        absolute(method, &text).ok_or(Fault::Target)
    }

    /// The host it names.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        match self {
            Self::Absolute { authority, .. } | Self::Authority(authority) => Some(authority),
            Self::Origin(_) | Self::Asterisk => None,
        }
    }

    /// Path and query as received, `*` for a question about the whole server, nothing for CONNECT.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        match self {
            Self::Origin(text) => text,
            Self::Absolute { path_and_query, .. } => path_and_query,
            Self::Authority(_) => "",
            Self::Asterisk => "*",
        }
    }
}

fn absolute(method: &Method, text: &Text) -> Option<Target> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Scheme::HTTP,
        _ if scheme.eq_ignore_ascii_case("https") => Scheme::HTTPS,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path_and_query = match path {
        "" if *method == Method::OPTIONS => Text(Bytes::from_static(b"*")),
        "" => Text(Bytes::from_static(b"/")),
        path if path.starts_with('/') => text.slice(path),
        path => Text(Bytes::from(format!("/{path}"))),
    };
    is_authority(authority).then(|| Target::Absolute {
        scheme,
        authority: text.slice(authority),
        path_and_query,
    })
}

/// Characters only; what they mean is judged with every other host.
fn is_authority(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'?' | b'#');
    !text.is_empty() && text.bytes().all(fits)
}

/// Text that is a slice of the bytes it was received in.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    fn new(bytes: Bytes) -> Result<Self, Fault> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(Fault::Target),
        }
    }

    fn slice(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part.as_bytes()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made, and cut between characters")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
