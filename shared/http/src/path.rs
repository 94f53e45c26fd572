//! The path of a request, in the one form in which it is judged, routed, logged and sent.
//!
//! What is done (RFC 3986 section 6.2.2, and what servers are known to do besides): escapes of unreserved
//! characters are decoded and others written in upper case, characters that no path has are escaped, a
//! backslash is a slash, slashes in a row are one, dot segments are resolved. What can be read in two ways is refused: escaped slashes and
//! backslashes, escaped control characters, `..;x` segments, `#`, bytes that no URI has. Nothing is
//! ever decoded twice. The query stays as it came.

use std::borrow::Cow;
use std::fmt;

use bytestring::ByteString;

/// A canonical path and the query as received. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct CanonicalPath {
    /// ASCII.
    text: ByteString,
    path_len: usize,
}

/// Why a target is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither `/...` nor what the method allows instead.
    #[error("the path does not start with a slash")]
    NotAbsolute,
    /// A control character, a space, `#` or a byte outside ASCII.
    #[error("the path has a byte that no URI has")]
    Byte,
    /// `%` without two hexadecimal digits.
    #[error("the path has an incomplete escape")]
    Escape,
    /// `%2F`, `%5C` or an escaped control character.
    #[error("the path has an escaped slash, backslash or control character")]
    Ambiguous,
    /// A dot segment with parameters, which servers read in different ways.
    #[error("the path has a dot segment with parameters")]
    DotParameters,
}

/// Brings the path and query of a request into their canonical form, which may be `raw` itself.
///
/// # Errors
/// What can be read in more than one way, or in none.
pub fn canonical(raw: impl Into<ByteString>) -> Result<CanonicalPath, PathError> {
    let text: ByteString = raw.into();
    let raw = text.as_bytes();
    let path_len = match raw.iter().position(|byte| *byte == b'?') {
        Some(at) => {
            if !raw[at..].iter().copied().all(is_uri_byte) {
                return Err(PathError::Byte);
            }
            at
        }
        None => raw.len(),
    };
    let path = &raw[..path_len];
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(path) {
        return Ok(CanonicalPath { text, path_len });
    }
    let decoded = decode(path)?;
    let mut resolved = resolve(&decoded)?;
    let resolved_len = resolved.len();
    resolved.extend_from_slice(&raw[path_len..]);
    let text = ByteString::try_from(resolved).map_err(|_| PathError::Byte)?;
    Ok(CanonicalPath {
        text,
        path_len: resolved_len,
    })
}

impl CanonicalPath {
    /// The target `*` of an OPTIONS request to the server as a whole.
    #[must_use]
    pub fn asterisk() -> Self {
        Self {
            text: ByteString::from_static("*"),
            path_len: 1,
        }
    }

    /// The path: what policies and routes look at.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[..self.path_len]
    }

    /// The query without its `?`, as received.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_len + 1..)
    }

    /// Path and query: what is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Another path with the same query.
    ///
    /// # Errors
    /// As [`canonical`]: a rewritten path is canonical as well.
    pub fn with_path(&self, path: &str) -> Result<Self, PathError> {
        canonical([path, &self.text[self.path_len..]].concat())
    }

    /// The same path with another query.
    ///
    /// # Errors
    /// The query has a byte that no URI has.
    pub fn with_query(&self, query: Option<&str>) -> Result<Self, PathError> {
        let mut text = self.path().to_owned();
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        if !text[self.path_len..].bytes().all(is_uri_byte) {
            return Err(PathError::Byte);
        }
        Ok(Self {
            text: text.into(),
            path_len: self.path_len,
        })
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Graphic characters that no path has (RFC 3986 section 3.3) and many clients send as they are. Servers read
/// them as their escapes.
fn is_unwise(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// A text to compare paths with, its characters as a canonical path has them.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(is_unwise) {
        return text.into();
    }
    let mut escaped = Vec::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match is_unwise(byte) {
            true => escape(byte, &mut escaped),
            false => escaped.push(byte),
        }
    }
    String::from_utf8_lossy(&escaped).into_owned().into()
}

fn escape(byte: u8, to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = [byte >> 4, byte & 15].map(|it| DIGITS[usize::from(it)]);
    to.push(b'%');
    to.extend(digits);
}

/// Nothing to decode, to resolve or to refuse: the common case, one pass.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in path {
        if byte == b'%' || byte == b'\\' || !is_uri_byte(byte) || is_unwise(byte) {
            return false;
        }
        if after_slash && (byte == b'/' || byte == b'.') {
            return false;
        }
        after_slash = byte == b'/';
    }
    true
}

/// Decodes what may be decoded, and makes backslashes slashes.
fn decode(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut digit = || {
                    let byte = rest.next().ok_or(PathError::Escape)?;
                    let digit = char::from(byte).to_digit(16).ok_or(PathError::Escape)?;
                    Ok(u8::try_from(digit).expect("a hexadecimal digit is below 16"))
                };
                let value = digit()? << 4 | digit()?;
                match value {
                    b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(PathError::Ambiguous),
                    b'-' | b'.' | b'_' | b'~' => decoded.push(value),
                    _ if value.is_ascii_alphanumeric() => decoded.push(value),
                    _ => escape(value, &mut decoded),
                }
            }
            b'\\' => decoded.push(b'/'),
            _ if is_unwise(byte) => escape(byte, &mut decoded),
            _ if is_uri_byte(byte) => decoded.push(byte),
            _ => return Err(PathError::Byte),
        }
    }
    Ok(decoded)
}

/// Merges slashes and resolves dot segments; never above the root.
fn resolve(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut resolved = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or(segment);
        let dots = matches!(name, b"." | b"..");
        if dots && name.len() < segment.len() {
            return Err(PathError::DotParameters);
        }
        if name == b".." && dots {
            let parent = resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            resolved.truncate(parent);
        } else if !dots && !segment.is_empty() {
            resolved.push(b'/');
            resolved.extend_from_slice(segment);
            continue;
        }
        // `/a/`, `/a/.` and `/a/b/..` end in a slash.
        if last {
            resolved.push(b'/');
        }
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(raw: &str) -> Result<String, PathError> {
        canonical(raw).map(|it| it.to_string())
    }

    #[test]
    fn queries_are_replaced() {
        let path = canonical("/a/../b?c=d").expect("a path");
        for (query, wanted) in [(None, "/b"), (Some(""), "/b?"), (Some("e?/.."), "/b?e?/..")] {
            let found = path.with_query(query).expect("a query");
            assert_eq!((found.path(), found.query()), ("/b", query));
            assert_eq!(found.as_str(), wanted);
        }
        for query in ["a b", "a#b", "\u{e4}", "a\r\n"] {
            assert_eq!(
                path.with_query(Some(query)),
                Err(PathError::Byte),
                "{query:?}"
            );
        }
    }

    #[test]
    fn canonical_forms() {
        for (raw, wanted) in [
            ("/", "/"),
            ("/a/b.c", "/a/b.c"),
            ("/a/?x=%2f..", "/a/?x=%2f.."),
            ("//admin", "/admin"),
            ("/a//b///c", "/a/b/c"),
            ("/a//", "/a/"),
            ("/%61dmin", "/admin"),
            ("/x/../admin", "/admin"),
            ("/x/%2e%2e/admin", "/admin"),
            ("/x/%2E%2e/admin?q=/../", "/admin?q=/../"),
            ("/./admin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/x;a=b/../admin", "/admin"),
            ("/x;a=b/y", "/x;a=b/y"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/a/../", "/"),
            ("/.hidden", "/.hidden"),
            ("/...", "/..."),
            ("/%2561dmin", "/%2561dmin"),
            ("/Admin", "/Admin"),
            ("/a%20b%c3%a4", "/a%20b%C3%A4"),
            ("/%7euser", "/~user"),
            ("/a?", "/a?"),
            ("/a??b", "/a??b"),
            ("/{a}|\"b\"^`<c>", "/%7Ba%7D%7C%22b%22%5E%60%3Cc%3E"),
            ("/%7Ba%7d?{b}", "/%7Ba%7D?{b}"),
            ("/[a]'(b)!*;:@&=+$,", "/[a]'(b)!*;:@&=+$,"),
        ] {
            assert_eq!(read(raw).as_deref(), Ok(wanted), "{raw}");
        }
    }

    #[test]
    fn texts_are_escaped_alike() {
        for (text, wanted) in [
            ("/a*", "/a*"),
            ("*.png", "*.png"),
            ("/{a}|b*", "/%7Ba%7D%7Cb*"),
            ("/%7B", "/%7B"),
        ] {
            assert_eq!(escaped(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use PathError as E;
        for (raw, error) in [
            ("", E::NotAbsolute),
            ("*", E::NotAbsolute),
            ("admin", E::NotAbsolute),
            ("?x", E::NotAbsolute),
            ("/x%2f..%2fadmin", E::Ambiguous),
            ("/x%5c..%5cadmin", E::Ambiguous),
            ("/admin%00", E::Ambiguous),
            ("/a%0d%0a", E::Ambiguous),
            ("/user#s", E::Byte),
            ("/a?b#c", E::Byte),
            ("/a b", E::Byte),
            ("/a\u{e4}", E::Byte),
            ("/a\tb", E::Byte),
            ("/a?b\u{7f}", E::Byte),
            ("/%", E::Escape),
            ("/%4", E::Escape),
            ("/%zz", E::Escape),
            ("/%+1", E::Escape),
            ("/a/..;/b", E::DotParameters),
            ("/.;x/b", E::DotParameters),
            ("/%2e%2e;x", E::DotParameters),
        ] {
            assert_eq!(read(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn parts() {
        let path = canonical("/a/../b?x=1").expect("good");
        assert_eq!((path.path(), path.query()), ("/b", Some("x=1")));
        let other = path.with_path("/c/./d").expect("good");
        assert_eq!(other.as_str(), "/c/d?x=1");
        assert_eq!(CanonicalPath::asterisk().query(), None);
    }

    #[test]
    fn a_canonical_path_is_shared() {
        let raw = ByteString::from_static("/api/v1/items?x=1");
        let path = canonical(raw.clone()).expect("good");
        assert_eq!(path.as_str().as_ptr(), raw.as_ptr());
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(raw in "/([a-c./;{|\\\\]|%2e|%41|%25|%20|%7c|\\?){0,12}") {
            if let Ok(once) = read(&raw) {
                prop_assert_eq!(read(&once), Ok(once.clone()));
                let path = once.split('?').next().unwrap_or_default().to_owned();
                prop_assert!(!path.contains("//"), "{}", path);
                prop_assert!(path.split('/').all(|it| it != "." && it != ".."), "{}", path);
            }
        }

        #[test]
        fn anything_is_read_or_refused(raw in proptest::collection::vec(any::<char>(), 0..40)) {
            let _ = canonical(String::from_iter(raw));
        }
    }
}
