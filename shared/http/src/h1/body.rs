//! Bodies, as they are read: pieces of the buffer, as they come.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memchr;

use super::error::{Error, Fault, Side};
use super::lines::Lines;
use super::{Framing, MAX_TRAILERS, trailers};

/// Bytes of the line before a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 256;
/// Bytes of all extensions of a body: they carry nothing, and cost the same as what does.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Digits of a chunk size, leading zeros included: what fits a u64.
const MAX_DIGITS: usize = 16;

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some bytes; never none.
    Data(Bytes),
    /// It is over. Trailers only if there are any, and without those that mean nothing there.
    End(Option<HeaderMap>),
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyDecoder {
    side: Side,
    state: State,
    extensions: usize,
}

#[derive(Debug)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    ChunkSize,
    /// Bytes left of a chunk; not 0.
    Chunk(u64),
    ChunkEnd,
    Trailers(Lines),
}

impl BodyDecoder {
    /// For the body after a head, sent by `side`.
    #[must_use]
    pub fn new(framing: Framing, side: Side) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            side,
            state,
            extensions: 0,
        }
    }

    /// All of it has been taken: what follows in the buffer is another message.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next piece from the front of `buf`; `None` until there is one. It never asks for
    /// more than a line to be there at once. After [`Piece::End`] it ends again and takes nothing.
    ///
    /// # Errors
    ///
    /// When the framing is broken; the connection is of no more use.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Piece>, Error> {
        let side = self.side;
        self.piece(buf).map_err(|fault| Error { side, fault })
    }

    /// The peer sends nothing more: the end of a body that lasts as long as the connection.
    ///
    /// # Errors
    ///
    /// [`Fault::Truncated`] for any other that is not complete.
    pub fn eof(&mut self) -> Result<(), Error> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Error {
                side: self.side,
                fault: Fault::Truncated,
            }),
        }
    }

    fn piece(&mut self, buf: &mut BytesMut) -> Result<Option<Piece>, Fault> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Some(Piece::End(None))),
                _ if buf.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(Piece::Data(buf.split().freeze()))),
                State::Length(left) => {
                    let data = take(buf, left);
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(Some(Piece::Data(data)));
                }
                State::Chunk(left) => {
                    let data = take(buf, left);
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Some(Piece::Data(data)));
                }
                State::ChunkEnd => {
                    match **buf {
                        [b'\r', b'\n', ..] => buf.advance(2),
                        [b'\r'] => return Ok(None),
                        _ => return Err(Fault::ChunkEnd),
                    }
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => {
                    let Some(size) = self.size(buf)? else {
                        return Ok(None);
                    };
                    self.state = match size {
                        0 => State::Trailers(Lines::default()),
                        size => State::Chunk(size),
                    };
                }
                State::Trailers(lines) => {
                    let Some(trailers) = take_trailers(buf, lines)? else {
                        return Ok(None);
                    };
                    self.state = State::Done;
                    return Ok(Some(Piece::End(trailers)));
                }
            }
        }
    }

    /// The size of the next chunk (RFC 9112 7.1).
    fn size(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, Fault> {
        let window = &buf[..buf.len().min(MAX_CHUNK_LINE)];
        let Some(end) = memchr(b'\n', window) else {
            return match window.len() {
                MAX_CHUNK_LINE if window.contains(&b';') => Err(Fault::ChunkExtension),
                MAX_CHUNK_LINE => Err(Fault::ChunkSize),
                _ => Ok(None),
            };
        };
        let line = window[..end]
            .strip_suffix(b"\r")
            .ok_or(Fault::BareLineFeed)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let (digits, extension) = line.split_at(digits.count());
        let size = hexadecimal(digits).ok_or(Fault::ChunkSize)?;
        match extension {
            [] => {}
            [b';', rest @ ..] if !rest.iter().any(|b| b.is_ascii_control() && *b != b'\t') => {
                self.extensions += extension.len();
            }
            _ => return Err(Fault::ChunkSize),
        }
        if self.extensions > MAX_EXTENSIONS {
            return Err(Fault::ChunkExtension);
        }
        buf.advance(end + 1);
        Ok(Some(size))
    }
}

/// As much of a body as there is.
fn take(buf: &mut BytesMut, left: &mut u64) -> Bytes {
    let most = usize::try_from(*left).unwrap_or(usize::MAX);
    let taken = buf.len().min(most);
    *left -= taken as u64;
    buf.split_to(taken).freeze()
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if !(1..=MAX_DIGITS).contains(&digits.len()) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.iter().try_fold(0u64, |size, byte| {
        Some(size << 4 | u64::from(digit(*byte)?))
    })
}

/// `Some(None)`: complete, and there are none.
fn take_trailers(
    buf: &mut BytesMut,
    lines: &mut Lines,
) -> Result<Option<Option<HeaderMap>>, Fault> {
    let end = match lines.end(buf, MAX_TRAILERS) {
        Ok(Some(end)) => end,
        Ok(None) => return Ok(None),
        Err(Fault::HeadTooLarge) => return Err(Fault::TrailersTooLarge),
        Err(fault) => return Err(fault),
    };
    let section = buf.split_to(end).freeze();
    match section.len() {
        2 => Ok(Some(None)),
        _ => trailers::parse(&section).map(Some),
    }
}
