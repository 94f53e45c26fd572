//! What an HTTP/2 connection says on its own: `h2` refuses what is over a limit without a word to us, so it is read from the
//! frames that leave (RFC 9113 section 4.1). One look at a frame's head, none at what it carries.

use super::measure::Limit;

/// Length, type, flags, stream.
const HEAD: usize = 9;
/// What is looked at of the payload of RST_STREAM (a code) and of GOAWAY (a stream, a code, and what `h2` says to it).
const LOOK: usize = 4 + 4 + 26;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Streams that were answered and ended lately: a reset of theirs may wait behind frames of others.
const ENDED: usize = 8;

/// Reads along what a server writes.
#[derive(Debug)]
pub(super) struct Leaving {
    /// The frame that has begun, as far as it is looked at.
    head: [u8; HEAD + LOOK],
    has: usize,
    /// What is left of the frame's payload.
    rest: usize,
    ended: [u32; ENDED],
    next: usize,
}

impl Default for Leaving {
    fn default() -> Self {
        Self {
            head: [0; HEAD + LOOK],
            has: 0,
            rest: 0,
            ended: [0; ENDED],
            next: 0,
        }
    }
}

impl Leaving {
    /// More was written. Calls `reached` with the limits that it says were reached.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut reached: impl FnMut(Limit)) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = self.wanted();
            let more = (wanted - self.has).min(bytes.len());
            self.head[self.has..self.has + more].copy_from_slice(&bytes[..more]);
            self.has += more;
            bytes = &bytes[more..];
            if self.has == self.wanted() {
                if let Some(limit) = self.read() {
                    reached(limit);
                }
                self.rest = self.length() - (self.has - HEAD);
                self.has = 0;
            }
        }
    }

    /// How much is looked at of the frame that has begun.
    fn wanted(&self) -> usize {
        match self.head[3] {
            RST_STREAM | GOAWAY if self.has >= HEAD => HEAD + self.length().min(LOOK),
            _ => HEAD,
        }
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    /// What the frame says of a limit. A request with too large headers is answered, which ends the stream, and then reset with
    /// PROTOCOL_ERROR; one that is malformed is reset alone.
    fn read(&mut self) -> Option<Limit> {
        let [_, _, _, kind, flags, ..] = self.head;
        let number = |at| {
            let word = self.head.get(at..self.has);
            let word = word.and_then(<[u8]>::first_chunk);
            word.map_or(0, |word| u32::from_be_bytes(*word))
        };
        let stream = number(5);
        match kind {
            HEADERS if flags & END_STREAM != 0 => {
                self.ended[self.next] = stream;
                self.next = (self.next + 1) % ENDED;
                None
            }
            RST_STREAM => match number(HEAD) {
                REFUSED_STREAM => Some(Limit::Streams),
                PROTOCOL_ERROR if self.ended.contains(&stream) => Some(Limit::Headers),
                _ => None,
            },
            GOAWAY => match number(HEAD + 4) {
                COMPRESSION_ERROR => Some(Limit::Headers),
                ENHANCE_YOUR_CALM => {
                    let said = &self.head[HEAD + 8..self.has];
                    Some(match said {
                        b"header_list_way_too_large" => Limit::Headers,
                        _ if said.ends_with(b"resets") => Limit::Resets,
                        _ => Limit::Frames,
                    })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its name, the frames that leave, and what they say.
    type Case<'a> = (&'a str, Vec<Vec<u8>>, &'a [Limit]);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn reset(stream: u32, code: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    #[test]
    fn limits_are_read_from_what_leaves_however_it_is_cut() {
        let data = |stream| frame(0, 0, stream, &[RST_STREAM; 100]);
        let answer = |flags, stream| frame(HEADERS, flags, stream, &[0x88]);
        let (whole, end) = (4, 4 | END_STREAM);
        let settings = frame(4, 0, 0, &[0; 12]);
        let goaway = |code: u32, said: &str| {
            let words = [&[0, 0, 0, 9][..], &code.to_be_bytes()[..], said.as_bytes()];
            frame(GOAWAY, 0, 0, &words.concat())
        };
        let calm = |said| vec![data(1), goaway(ENHANCE_YOUR_CALM, said)];
        let cases: [Case<'_>; 13] = [
            ("an orderly end", vec![goaway(0, "")], &[]),
            ("too many resets", calm("too_many_resets"), &[Limit::Resets]),
            (
                "too many resets of ours",
                calm("too_many_internal_resets"),
                &[Limit::Resets],
            ),
            (
                "headers that are much too large",
                calm("header_list_way_too_large"),
                &[Limit::Headers],
            ),
            (
                "headers that do not end",
                vec![goaway(COMPRESSION_ERROR, "")],
                &[Limit::Headers],
            ),
            (
                "small frames",
                calm("too_many_continuations"),
                &[Limit::Frames],
            ),
            ("nothing", vec![settings, frame(6, 1, 0, &[7; 8])], &[]),
            (
                "a stream too many",
                vec![data(1), reset(5, REFUSED_STREAM), data(3)],
                &[Limit::Streams],
            ),
            (
                "headers that are too large",
                vec![answer(end, 3), data(1), reset(3, PROTOCOL_ERROR)],
                &[Limit::Headers],
            ),
            (
                "malformed",
                vec![answer(whole, 3), reset(3, PROTOCOL_ERROR)],
                &[],
            ),
            (
                "malformed, beside one that was refused",
                vec![answer(end, 1), reset(3, PROTOCOL_ERROR)],
                &[],
            ),
            ("refused by us", vec![answer(end, 3), reset(3, 0)], &[]),
            (
                "both",
                vec![
                    reset(9, REFUSED_STREAM),
                    answer(end, 7),
                    reset(7, PROTOCOL_ERROR),
                    reset(11, REFUSED_STREAM),
                ],
                &[Limit::Streams, Limit::Headers, Limit::Streams],
            ),
        ];
        for (case, frames, expected) in cases {
            let bytes = frames.concat();
            for size in 1..=bytes.len() {
                let mut leaving = Leaving::default();
                let mut limits = Vec::new();
                for piece in bytes.chunks(size) {
                    leaving.pass(piece, |limit| limits.push(limit));
                }
                assert_eq!(limits, expected, "{case}, in pieces of {size}");
            }
        }
    }
}
