//! The target of a request line (RFC 9112 3.2).

use bytes::Bytes;
use bytestring::ByteString;
use http::Method;
use http::uri::Scheme;

use super::error::Fault;

/// What a request line asks for. Texts are slices of what was received, as far as it says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`, as received: `path` says what it means.
    Origin(ByteString),
    /// `http://host/path?query`, as to a proxy.
    Absolute {
        #[allow(missing_docs)]
        scheme: Scheme,
        /// `host` or `host:port`, no user information.
        authority: ByteString,
        /// `/` when there is none; `*` for OPTIONS (RFC 9112 3.2.4).
        path_and_query: ByteString,
    },
    /// `host:port`, of CONNECT alone.
    Authority(ByteString),
    /// `*`, of OPTIONS alone.
    Asterisk,
}

impl Target {
    pub(super) fn parse(method: &Method, text: Bytes) -> Result<Self, Fault> {
        let text = ByteString::try_from(text).map_err(|_| Fault::Target)?;
        if *method == Method::CONNECT {
            return match is_authority(&text) {
                true => Ok(Self::Authority(text)),
                false => Err(Fault::Target),
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Origin(text));
        }
        if text == "*" && *method == Method::OPTIONS {
            return Ok(Self::Asterisk);
        }
        absolute(method, &text).ok_or(Fault::Target)
    }

    /// The host it names.
    #[must_use]
    pub fn authority(&self) -> Option<&ByteString> {
        match self {
            Self::Absolute { authority, .. } | Self::Authority(authority) => Some(authority),
            Self::Origin(_) | Self::Asterisk => None,
        }
    }

    /// Path and query as received, `*` for a question about the whole server, nothing for CONNECT.
    #[must_use]
    pub fn into_path_and_query(self) -> ByteString {
        match self {
            Self::Origin(text) => text,
            Self::Absolute { path_and_query, .. } => path_and_query,
            Self::Authority(_) => ByteString::new(),
            Self::Asterisk => ByteString::from_static("*"),
        }
    }
}

fn absolute(method: &Method, text: &ByteString) -> Option<Target> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Scheme::HTTP,
        _ if scheme.eq_ignore_ascii_case("https") => Scheme::HTTPS,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path_and_query = match path {
        "" if *method == Method::OPTIONS => ByteString::from_static("*"),
        "" => ByteString::from_static("/"),
        path if path.starts_with('/') => text.slice_ref(path),
        path => format!("/{path}").into(),
    };
    is_authority(authority).then(|| Target::Absolute {
        scheme,
        authority: text.slice_ref(authority),
        path_and_query,
    })
}

/// Characters only; what they mean is judged with every other host.
fn is_authority(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'?' | b'#');
    !text.is_empty() && text.bytes().all(fits)
}
