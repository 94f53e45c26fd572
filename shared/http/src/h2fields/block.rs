//! Whether `h2` can decode a header block, and what goes on in place of one that it cannot.

use super::Unreadable;
use super::frame::Block;
use super::item::{Item, KEPT, KEPT_PREFIX, Name, TEXT_PREFIX, write_number};
use super::table::{Entry, Table};
use super::text::Kind;

/// `transfer-encoding`, a literal that does not become an entry (name 57 of the static table), with an empty value. A message with
/// it is malformed (RFC 9113 section 8.2.2).
const MALFORMED: [u8; 3] = [0x0f, 57 - 15, 0];
/// What replacements are made of: a letter that fits anywhere.
const LETTER: u8 = b'a';

/// The frame that goes on in place of `frames`, which are one whole block; `None` when they go on as they are.
pub(super) fn sift(frames: &[u8], table: &mut Table) -> Result<Option<Vec<u8>>, Unreadable> {
    let block = Block::read(frames)?;
    let start = block.depends_on_itself().then(Vec::new);
    match judge(&block.bytes, table, start)? {
        Some(other) => block.with(&other).map(Some).ok_or(Unreadable),
        None if block.is_joined() => Ok(block.joined()),
        None => Ok(None),
    }
}

/// Goes through a block. Returns another in its place, which begins with `other`, from the first fault on or if there is such
/// a beginning already.
fn judge(
    block: &[u8],
    table: &mut Table,
    mut other: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let mut at = 0;
    let mut has_fields = false;
    while at < block.len() {
        // What most blocks are made of: fields of the tables, in a byte each.
        if let byte @ 0x80..=0xfe = block[at]
            && table.has(usize::from(byte & 0x7f))
        {
            at += 1;
            has_fields = true;
            continue;
        }
        let (item, length) = Item::parse(&block[at..])?;
        let (before, bytes) = (&block[..at], &block[at..at + length]);
        let changed = || kept(before);
        at += length;
        match item {
            // Later ones are an error (RFC 7541 section 4.2).
            Item::Resize(_) if has_fields => return Err(Unreadable),
            Item::Resize(max) => {
                table.resize(max)?;
                if let Some(other) = &mut other {
                    other.extend_from_slice(bytes);
                }
            }
            Item::Indexed(index) => {
                if table.entry(index)?.is_replaced {
                    other.get_or_insert_with(changed);
                }
            }
            Item::Literal {
                is_kept,
                name,
                value,
                value_at,
            } => {
                let (name, kind) = match name {
                    Name::Indexed(index) => {
                        let entry = table.entry(index)?;
                        (entry.name, entry.kind)
                    }
                    Name::Literal(name) => {
                        let name = name.text()?;
                        (name.length, name.kind())
                    }
                };
                let text = value.text()?;
                let fits = kind.fits(&text);
                let mut entry = Entry {
                    name,
                    value: text.length,
                    kind,
                    is_replaced: !fits,
                };
                if !fits {
                    let other = other.get_or_insert_with(changed);
                    if is_kept {
                        replace(other, &mut entry, &bytes[..value_at])?;
                    }
                } else if let Some(other) = &mut other
                    && is_kept
                {
                    other.extend_from_slice(bytes);
                }
                if is_kept {
                    table.add(entry);
                }
            }
        }
        has_fields |= !matches!(item, Item::Resize(_));
    }
    if let Some(other) = &mut other {
        other.extend_from_slice(&MALFORMED);
    }
    Ok(other)
}

/// What changes the dynamic table, of a block that has been read before.
fn kept(mut block: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Ok((item, length)) = Item::parse(block) {
        let (bytes, rest) = block.split_at(length);
        if matches!(item, Item::Resize(_) | Item::Literal { is_kept: true, .. }) {
            kept.extend_from_slice(bytes);
        }
        block = rest;
    }
    kept
}

/// Writes an entry that `h2` takes, of the size of `entry`. Its name stays if it is one and letters are a value of it: other
/// fields may have it from there. `name` is how it was written.
fn replace(other: &mut Vec<u8>, entry: &mut Entry, name: &[u8]) -> Result<(), Unreadable> {
    let mut value = entry.value;
    if entry.kind.takes_letters(value) {
        other.extend_from_slice(name);
    } else {
        entry.kind = Kind::Fault;
        // An empty name gets a letter of the value.
        let length = entry.name.max(1);
        value = (entry.name + value).checked_sub(length).ok_or(Unreadable)?;
        write_number(other, KEPT, KEPT_PREFIX, 0);
        write_letters(other, length);
    }
    write_letters(other, value);
    Ok(())
}

fn write_letters(out: &mut Vec<u8>, length: usize) {
    write_number(out, 0, TEXT_PREFIX, length);
    out.resize(out.len() + length, LETTER);
}
