//! Names and values: which of them `h2`, and `http` below it, take for none.

use std::borrow::Cow;

use super::{Unreadable, huffman};

/// A string as it is written (RFC 7541 section 5.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Coded<'a> {
    pub(super) is_huffman: bool,
    pub(super) bytes: &'a [u8],
}

/// Not in a field's name.
const NO_NAME: u8 = 1;
/// Not in a field's value.
const NO_VALUE: u8 = 2;
/// Not in a method.
const NO_METHOD: u8 = 4;
/// Not ASCII.
const HIGH: u8 = 8;

/// What each byte is not fit for.
pub(super) const MARKS: [u8; 256] = marks();

const fn marks() -> [u8; 256] {
    let mut marks = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let token = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(byte, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        if !token {
            marks[at] |= NO_METHOD;
        }
        // `http` takes quotation marks too.
        if !token && byte != b'"' || byte.is_ascii_uppercase() {
            marks[at] |= NO_NAME;
        }
        if byte < b' ' && byte != b'\t' || byte == 0x7f {
            marks[at] |= NO_VALUE;
        }
        if byte >= 0x80 {
            marks[at] |= HIGH;
        }
        at += 1;
    }
    marks
}

/// A string, looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    coded: Coded<'a>,
    pub(super) length: usize,
    /// All that one of its bytes is not fit for.
    marks: u8,
}

impl<'a> Coded<'a> {
    pub(super) fn text(self) -> Result<Text<'a>, Unreadable> {
        let (length, marks) = match self.is_huffman {
            true => huffman::measure(self.bytes)?,
            false => {
                let marks = self.bytes.iter().map(|byte| MARKS[usize::from(*byte)]);
                (self.bytes.len(), marks.fold(0, |all, one| all | one))
            }
        };
        Ok(Text {
            coded: self,
            length,
            marks,
        })
    }
}

/// What the values of a name have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those of a field.
    Field,
    /// Text: those of `:authority`, `:path`, `:protocol` and `:scheme`.
    Text,
    Method,
    Status,
    /// It is no name, so nothing is a value of it.
    Fault,
}

impl<'a> Text<'a> {
    fn bytes(&self) -> Cow<'a, [u8]> {
        match self.coded.is_huffman {
            true => huffman::decode(self.coded.bytes).into(),
            false => self.coded.bytes.into(),
        }
    }

    /// Of a name.
    pub(super) fn kind(&self) -> Kind {
        if self.length > 0 && self.marks & NO_NAME == 0 {
            return Kind::Field;
        }
        match &*self.bytes() {
            b":authority" | b":path" | b":protocol" | b":scheme" => Kind::Text,
            b":method" => Kind::Method,
            b":status" => Kind::Status,
            _ => Kind::Fault,
        }
    }
}

impl Kind {
    /// Whether a text is a value of this kind.
    pub(super) fn fits(self, text: &Text<'_>) -> bool {
        match self {
            Self::Field => text.marks & NO_VALUE == 0,
            Self::Text => text.marks & HIGH == 0 || str::from_utf8(&text.bytes()).is_ok(),
            Self::Method => text.length > 0 && text.marks & NO_METHOD == 0,
            Self::Status => match &*text.bytes() {
                [b'1'..=b'9', rest @ ..] => rest.len() == 2 && rest.iter().all(u8::is_ascii_digit),
                _ => false,
            },
            Self::Fault => false,
        }
    }

    /// Whether as many letters are a value of this kind. No method is empty, and a status has digits.
    pub(super) fn takes_letters(self, length: usize) -> bool {
        match self {
            Self::Field | Self::Text => true,
            Self::Method => length > 0,
            Self::Status | Self::Fault => false,
        }
    }
}
