//! A client's side of HPACK (RFC 7541), which writes anything.

use std::collections::VecDeque;

use super::super::huffman::{LENGTHS, codes};
use super::super::item::{TEXT_PREFIX, write_number};

/// Some of the static table: index, name and value (RFC 7541 appendix A).
const STATIC: &[(usize, &str, &str)] = &[
    (1, ":authority", ""),
    (2, ":method", "GET"),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (6, ":scheme", "http"),
    (8, ":status", "200"),
    (19, "accept", ""),
    (32, "cookie", ""),
    (61, "www-authenticate", ""),
];

/// Which kind of literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Kept,
    Plain,
    Never,
}

/// A field and how to write it.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) how: How,
    pub(super) is_huffman: bool,
    /// By what the tables have of it.
    pub(super) is_referred: bool,
}

impl Field {
    pub(super) fn new(name: &str, value: &str, how: How) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            how,
            is_huffman: false,
            is_referred: true,
        }
    }
}

/// The dynamic table, as the client believes the server to have it.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    max: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            max: 4096,
        }
    }
}

impl Encoder {
    pub(super) fn write(&mut self, block: &mut Vec<u8>, field: &Field) {
        let mut name = 0;
        if field.is_referred {
            let fixed = STATIC
                .iter()
                .map(|(index, name, value)| (*index, name.as_bytes(), value.as_bytes()));
            let known = self.entries.iter().enumerate();
            let known = known.map(|(at, (name, value))| (62 + at, &**name, &**value));
            let of_name: Vec<_> = fixed.chain(known).filter(|it| it.1 == field.name).collect();
            if let Some((index, ..)) = of_name.iter().find(|it| it.2 == field.value) {
                return write_number(block, 0x80, 7, *index);
            }
            name = of_name.first().map_or(0, |it| it.0);
        }
        match field.how {
            How::Kept => write_number(block, 0x40, 6, name),
            How::Plain => write_number(block, 0, 4, name),
            How::Never => write_number(block, 0x10, 4, name),
        }
        if name == 0 {
            text(block, &field.name, field.is_huffman);
        }
        text(block, &field.value, field.is_huffman);
        if field.how == How::Kept {
            self.entries
                .push_front((field.name.clone(), field.value.clone()));
            self.fit();
        }
    }

    pub(super) fn resize(&mut self, block: &mut Vec<u8>, max: usize) {
        write_number(block, 0x20, 5, max);
        self.max = max;
        self.fit();
    }

    fn fit(&mut self) {
        let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > self.max {
            self.entries.pop_back();
        }
    }
}

fn text(block: &mut Vec<u8>, text: &[u8], is_huffman: bool) {
    if !is_huffman {
        write_number(block, 0, TEXT_PREFIX, text.len());
        return block.extend(text);
    }
    let coded = huffman(text);
    write_number(block, 0x80, TEXT_PREFIX, coded.len());
    block.extend(coded);
}

/// Huffman's code of a text, with ones to the end.
pub(super) fn huffman(text: &[u8]) -> Vec<u8> {
    let codes = codes();
    let mut bits = Vec::new();
    for byte in text {
        let at = usize::from(*byte);
        bits.extend((0..LENGTHS[at]).rev().map(|bit| codes[at] >> bit & 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(1);
    }
    let byte = |bits: &[u32]| bits.iter().fold(0, |byte, bit| byte << 1 | *bit) as u8;
    bits.chunks(8).map(byte).collect()
}
