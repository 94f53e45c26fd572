//! Netlink messages as bytes: a header, a fixed part and nested attributes, all aligned to four bytes, in the host's order
//! unless a protocol says otherwise (RFC 3549, `linux/netlink.h`).

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
const NESTED: u16 = 1 << 15;
const KIND_MASK: u16 = !(NESTED | 1 << 14);

/// A request being written.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn new(kind: u16, flags: i32) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST)
            .expect("the flags of a netlink header are 16 bits");
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// The fixed part that follows the header.
    pub(crate) fn fixed(mut self, part: &[u8]) -> Self {
        self.bytes.extend_from_slice(part);
        self.pad();
        self
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE + value.len())
            .expect("attributes with a value of their own stay below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A number in network order, as netfilter has them all.
    pub(crate) fn attr_be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) {
        let mut text = Vec::with_capacity(value.len() + 1);
        text.extend_from_slice(value.as_bytes());
        text.push(0);
        self.attr(kind, &text);
    }

    /// An attribute that holds the attributes which `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start)
            .expect("nested attributes stay below 64 KiB: long lists are sent in pieces");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Writes `kind`, then the sequence number and the length: the message is ready to go.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a request stays below 4 GiB");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    pub(crate) fn add_flags(&mut self, flags: i32) {
        let now = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        let flags = u16::try_from(flags).expect("the flags of a netlink header are 16 bits");
        self.bytes[6..8].copy_from_slice(&(now | flags).to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Splits a datagram into its messages; bytes that are none end it.
pub(crate) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(datagram, 0)? as usize;
        let body = datagram.get(HEADER..length)?;
        let reply = Reply {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            body,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(reply)
    })
}

/// The attributes in `bytes`: their kind without the flag bits, and their value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// Whether `held` has every attribute of `asked`, nested ones compared in the same way. The kernel adds attributes and
/// drops the nesting flag when it shows what it was given. List elements (equal kinds) are compared in order.
pub(crate) fn contains(held: &[u8], asked: &[u8]) -> bool {
    let mut rest = asked;
    let mut seen: Vec<u16> = Vec::new();
    while !rest.is_empty() {
        let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) else {
            return false;
        };
        let Some(value) = rest.get(ATTRIBUTE..usize::from(length)) else {
            return false;
        };
        rest = rest
            .get(usize::from(length).next_multiple_of(4)..)
            .unwrap_or(&[]);
        let bare = kind & KIND_MASK;
        let nth = seen.iter().filter(|k| **k == bare).count();
        seen.push(bare);
        let Some((_, found)) = attributes(held).filter(|(k, _)| *k == bare).nth(nth) else {
            return false;
        };
        let same = if kind & NESTED != 0 {
            contains(found, value)
        } else {
            found == value
        };
        if !same {
            return false;
        }
    }
    true
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A text attribute, which the kernel may or may not end with a zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fill: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(1, 0);
        fill(&mut message);
        message.finish(0)[HEADER..].to_vec()
    }

    #[test]
    fn messages_come_back_as_written() {
        let mut message = Message::new(20, libc::NLM_F_ACK).fixed(&[1, 2, 3]);
        message.attr_str(3, "eth0");
        message.nest(18, |m| m.attr_u32(1, 7));
        let mut bytes = message.finish(42);
        bytes.extend(Message::new(21, 0).finish(43));
        let all: Vec<_> = replies(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].sequence), (20, 42));
        assert_eq!(all[0].body[..4], [1, 2, 3, 0]);
        let attrs: Vec<_> = attributes(&all[0].body[4..]).collect();
        assert_eq!(attrs[0], (3, &b"eth0\0"[..]));
        assert_eq!(attrs[1].0, 18);
        assert_eq!(
            attributes(attrs[1].1).collect::<Vec<_>>(),
            [(1, &7u32.to_ne_bytes()[..])]
        );
        assert_eq!((all[1].kind, all[1].sequence), (21, 43));
    }

    #[test]
    fn cut_bytes_end_quietly() {
        let mut message = Message::new(20, 0);
        message.attr_str(3, "a name");
        let bytes = message.finish(1);
        for end in 0..bytes.len() {
            assert_eq!(replies(&bytes[..end]).count(), 0, "{end}");
        }
        for end in HEADER..bytes.len() {
            let cut = attributes(&bytes[HEADER..end]).count();
            assert!(cut == 0 || end >= HEADER + 11, "{end}");
        }
    }

    #[test]
    fn containment_ignores_what_the_kernel_adds() {
        let asked = body(|m| {
            m.nest(4, |m| {
                m.nest(1, |m| m.attr_u32(1, 1));
                m.nest(1, |m| m.attr_u32(1, 2));
            });
        });
        let held = body(|m| {
            m.attr_u32(9, 9);
            m.nest(4, |m| {
                m.nest(1, |m| {
                    m.attr_u32(1, 1);
                    m.attr_u32(7, 7);
                });
                m.nest(1, |m| m.attr_u32(1, 2));
            });
        });
        assert!(contains(&held, &asked));
        assert!(!contains(&asked, &held));
        let swapped = body(|m| {
            m.nest(4, |m| {
                m.nest(1, |m| m.attr_u32(1, 2));
                m.nest(1, |m| m.attr_u32(1, 1));
            });
        });
        assert!(!contains(&swapped, &asked));
    }
}
