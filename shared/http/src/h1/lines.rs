//! Where a section of lines ends: each byte is looked at once, however it arrives.

use memchr::memchr_iter;

use super::error::Fault;

/// Finds the empty line that ends a head or trailers. Lines end with CRLF, nothing else: what one
/// recipient takes for a line end and another does not is how requests are smuggled.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Bytes that have been looked at.
    seen: usize,
    /// Where the current line starts.
    line: usize,
}

impl Lines {
    /// The length of the section with its empty line, once all of it is there. `buf` starts where
    /// the section starts and only grows between calls.
    pub(super) fn end(&mut self, buf: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
        let window = &buf[..buf.len().min(limit)];
        let from = self.seen.min(window.len());
        for at in memchr_iter(b'\n', &window[from..]) {
            let at = from + at;
            if at == self.line || window[at - 1] != b'\r' {
                return Err(Fault::BareLineFeed);
            }
            if at == self.line + 1 {
                *self = Self::default();
                return Ok(Some(at + 1));
            }
            self.line = at + 1;
        }
        self.seen = window.len();
        match window.len() == limit {
            true => Err(Fault::HeadTooLarge),
            false => Ok(None),
        }
    }

    /// The first line is complete.
    pub(super) fn any(&self) -> bool {
        self.line > 0
    }
}
