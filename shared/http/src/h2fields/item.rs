//! The representations in a header block (RFC 7541 sections 5 and 6), as they are written.

use super::Unreadable;
use super::text::Coded;

/// One representation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    /// A whole field of the tables.
    Indexed(usize),
    /// A field with its value, and where that begins in the representation.
    Literal {
        /// It becomes an entry of the dynamic table.
        is_kept: bool,
        name: Name<'a>,
        value: Coded<'a>,
        value_at: usize,
    },
    /// The dynamic table may have this size from now on.
    Resize(usize),
}

/// The name of a literal.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    /// That of an entry of the tables.
    Indexed(usize),
    Literal(Coded<'a>),
}

/// First bits of a literal that becomes an entry, and of its index.
pub(super) const KEPT: u8 = 0x40;
pub(super) const KEPT_PREFIX: u32 = 6;
/// Bits of a string's length; the one before them says that it is in Huffman's code.
pub(super) const TEXT_PREFIX: u32 = 7;
const HUFFMAN: u8 = 0x80;
/// Bytes of a number that `h2` reads, with its prefix.
const MAX_NUMBER: u32 = 5;

impl<'a> Item<'a> {
    /// The first of `block`, and how many bytes it takes.
    pub(super) fn parse(block: &'a [u8]) -> Result<(Self, usize), Unreadable> {
        let mut input = Input { block, at: 0 };
        let item = match *block.first().ok_or(Unreadable)? {
            0x80.. => Self::Indexed(input.number(7)?),
            KEPT.. => input.literal(KEPT_PREFIX)?,
            0x20.. => Self::Resize(input.number(5)?),
            _ => input.literal(4)?,
        };
        Ok((item, input.at))
    }
}

struct Input<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn literal(&mut self, prefix: u32) -> Result<Item<'a>, Unreadable> {
        let name = match self.number(prefix)? {
            0 => Name::Literal(self.text()?),
            index => Name::Indexed(index),
        };
        let value_at = self.at;
        Ok(Item::Literal {
            is_kept: prefix == KEPT_PREFIX,
            name,
            value: self.text()?,
            value_at,
        })
    }

    fn text(&mut self) -> Result<Coded<'a>, Unreadable> {
        let first = *self.block.get(self.at).ok_or(Unreadable)?;
        let length = self.number(TEXT_PREFIX)?;
        let bytes = self.block[self.at..].get(..length).ok_or(Unreadable)?;
        self.at += length;
        Ok(Coded {
            is_huffman: first & HUFFMAN != 0,
            bytes,
        })
    }

    /// A number whose first `prefix` bits are in a byte with others (RFC 7541 section 5.1).
    fn number(&mut self, prefix: u32) -> Result<usize, Unreadable> {
        let most = (1 << prefix) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        for place in 0..MAX_NUMBER - 1 {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let byte = *self.block.get(self.at).ok_or(Unreadable)?;
        self.at += 1;
        Ok(byte)
    }
}

/// Writes a number behind `first`, of which `prefix` bits are its (RFC 7541 section 5.1).
pub(super) fn write_number(out: &mut Vec<u8>, first: u8, prefix: u32, number: usize) {
    let most = (1usize << prefix) - 1;
    if number < most {
        return out.push(first | number as u8);
    }
    out.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}
