//! The static table, and the sizes of the dynamic table's entries (RFC 7541 section 2.3).

use std::collections::VecDeque;

use super::Unreadable;
use super::text::Kind;

/// SETTINGS_HEADER_TABLE_SIZE where nobody has set another (RFC 9113 section 6.5.2).
const MAX_SIZE: usize = 4096;
/// What an entry counts for besides its bytes (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// Lengths of the names of the static table (RFC 7541 appendix A), in its order.
const STATIC: [usize; 61] = {
    const NAMES: [&str; 61] = [
        ":authority",
        ":method",
        ":method",
        ":path",
        ":path",
        ":scheme",
        ":scheme",
        ":status",
        ":status",
        ":status",
        ":status",
        ":status",
        ":status",
        ":status",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "accept-ranges",
        "accept",
        "access-control-allow-origin",
        "age",
        "allow",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "etag",
        "expect",
        "expires",
        "from",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "last-modified",
        "link",
        "location",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "referer",
        "refresh",
        "retry-after",
        "server",
        "set-cookie",
        "strict-transport-security",
        "transfer-encoding",
        "user-agent",
        "vary",
        "via",
        "www-authenticate",
    ];
    let mut lengths = [0; 61];
    let mut at = 0;
    while at < 61 {
        lengths[at] = NAMES[at].len();
        at += 1;
    }
    lengths
};

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes of the name that the client knows.
    pub(super) name: usize,
    /// Bytes of the value.
    pub(super) value: usize,
    /// `Fault` when the name that `h2` knows is another.
    pub(super) kind: Kind,
    /// `h2` knows another entry.
    pub(super) is_replaced: bool,
}

impl Entry {
    fn size(&self) -> usize {
        OVERHEAD + self.name + self.value
    }
}

/// The dynamic table as client and `h2` both have it.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// Entries that were replaced.
    stains: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max: MAX_SIZE,
            stains: 0,
        }
    }
}

impl Table {
    /// The entry of an index; of those of the static table the name alone.
    pub(super) fn entry(&self, index: usize) -> Result<Entry, Unreadable> {
        let at = index.checked_sub(1).ok_or(Unreadable)?;
        match at.checked_sub(STATIC.len()) {
            Some(at) => self.entries.get(at).copied().ok_or(Unreadable),
            None => Ok(Entry {
                name: STATIC[at],
                value: 0,
                kind: match index {
                    1 | 4..=7 => Kind::Text,
                    2 | 3 => Kind::Method,
                    8..=14 => Kind::Status,
                    _ => Kind::Field,
                },
                is_replaced: false,
            }),
        }
    }

    /// There is an entry of this index, as the client knows it.
    pub(super) fn has(&self, index: usize) -> bool {
        match index.checked_sub(STATIC.len() + 1) {
            Some(at) => self.entries.get(at).is_some_and(|it| !it.is_replaced),
            None => index > 0,
        }
    }

    /// Adds an entry; one that is larger than the table empties it (RFC 7541 section 4.4).
    pub(super) fn add(&mut self, entry: Entry) {
        self.shrink(self.max.saturating_sub(entry.size()));
        if entry.size() <= self.max {
            self.size += entry.size();
            self.stains += usize::from(entry.is_replaced);
            self.entries.push_front(entry);
        }
    }

    /// Its size may be this much from now on.
    pub(super) fn resize(&mut self, max: usize) -> Result<(), Unreadable> {
        if max > MAX_SIZE {
            return Err(Unreadable);
        }
        self.max = max;
        self.shrink(max);
        Ok(())
    }

    /// Some entry is another than the client knows.
    pub(super) fn is_stained(&self) -> bool {
        self.stains > 0
    }

    fn shrink(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.size -= oldest.size();
            self.stains -= usize::from(oldest.is_replaced);
        }
    }
}
