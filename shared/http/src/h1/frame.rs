//! Bodies, as they are written: small frames around the bytes, which are not copied.

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::Framing;
use super::encode::{is_ours, put_field};
use super::error::EncodeError;
use super::trailers::{Fate, fate};

/// Frames one body.
#[derive(Debug)]
pub struct BodyEncoder(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// There is no place for a body: what comes is swallowed.
    Nothing,
    /// Bytes left.
    Length(u64),
    Chunked,
    UntilClose,
}

impl BodyEncoder {
    pub(super) fn new(body: Framing) -> Self {
        Self(match body {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked,
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// For no body at all: what it is given is swallowed.
    #[must_use]
    pub fn nothing() -> Self {
        Self(State::Nothing)
    }

    /// Some bytes of the body.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`]: they do not fit the length that was announced.
    pub fn data(&mut self, data: Bytes) -> Result<Frame, EncodeError> {
        match &mut self.0 {
            State::Nothing => Ok(Frame::plain(Bytes::new())),
            State::Length(left) => {
                let size = data.len() as u64;
                *left = left.checked_sub(size).ok_or(EncodeError::TooLong)?;
                Ok(Frame::plain(data))
            }
            // An empty chunk would be the last.
            State::Chunked if data.is_empty() => Ok(Frame::plain(Bytes::new())),
            State::Chunked => Ok(Frame::chunk(data, b"\r\n")),
            State::UntilClose => Ok(Frame::plain(data)),
        }
    }

    /// The last bytes of the body and its end, in one frame.
    ///
    /// # Errors
    ///
    /// The length that was announced is another.
    pub fn last(mut self, data: Bytes) -> Result<Frame, EncodeError> {
        if self.0 == State::Chunked && !data.is_empty() {
            return Ok(Frame::chunk(data, b"\r\n0\r\n\r\n"));
        }
        let frame = self.data(data)?;
        let end = self.end(None)?;
        Ok(if frame.has_remaining() { frame } else { end })
    }

    /// The end of the body. Trailers are sent if it is chunked, and lost otherwise.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooShort`]: bytes are missing; the connection is closed, so that the peer
    /// sees it.
    pub fn end(self, trailers: Option<&HeaderMap>) -> Result<Frame, EncodeError> {
        match self.0 {
            State::Length(left) if left > 0 => Err(EncodeError::TooShort),
            State::Nothing | State::Length(_) | State::UntilClose => Ok(Frame::plain(Bytes::new())),
            State::Chunked => Ok(match trailers {
                None => Frame::plain(Bytes::from_static(b"0\r\n\r\n")),
                Some(trailers) => Frame::plain(last_chunk(trailers)),
            }),
        }
    }
}

fn last_chunk(trailers: &HeaderMap) -> Bytes {
    let mut out = BytesMut::from(&b"0\r\n"[..]);
    for (name, value) in trailers {
        if !is_ours(name) && fate(name) != Fate::Refuse {
            put_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.freeze()
}

/// Bytes to write: up to three slices, for one vectored write.
#[derive(Debug, Clone)]
pub struct Frame {
    prefix: [u8; PREFIX],
    at: u8,
    data: Bytes,
    suffix: &'static [u8],
}

/// `FFFFFFFFFFFFFFFF` and CRLF. It is filled from the end.
const PREFIX: usize = 18;

impl Frame {
    fn plain(data: Bytes) -> Self {
        Self {
            prefix: [0; PREFIX],
            at: PREFIX as u8,
            data,
            suffix: b"",
        }
    }

    fn chunk(data: Bytes, suffix: &'static [u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut prefix = [0; PREFIX];
        prefix[PREFIX - 2..].copy_from_slice(b"\r\n");
        let mut at = PREFIX - 2;
        let mut size = data.len();
        while size > 0 {
            at -= 1;
            prefix[at] = DIGITS[size & 15];
            size >>= 4;
        }
        Self {
            prefix,
            at: at as u8,
            data,
            suffix,
        }
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[usize::from(self.at)..]
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.prefix().len() + self.data.len() + self.suffix.len()
    }

    fn chunk(&self) -> &[u8] {
        if !self.prefix().is_empty() {
            self.prefix()
        } else if !self.data.is_empty() {
            &self.data
        } else {
            self.suffix
        }
    }

    fn advance(&mut self, count: usize) {
        let prefix = count.min(self.prefix().len());
        self.at += prefix as u8;
        let data = (count - prefix).min(self.data.len());
        self.data.advance(data);
        self.suffix = &self.suffix[count - prefix - data..];
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [self.prefix(), &self.data, self.suffix];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }
}
