//! TCP modes, and the line by which a client of the shared port chooses one.
//!
//! On a port without a fixed mode a client sends `!MODE [SIZE]` and a newline first, then the bytes of that mode. Anything
//! that is neither such a line nor HTTP is echoed.

use std::str::FromStr;

use crate::programs::units;

/// What a TCP connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Sends back what comes.
    Echo,
    /// Reads to the end and answers nothing (RFC 863).
    Discard,
    /// Reads to the end and answers a line of JSON with the number of bytes.
    Count,
    /// Reads to the end and answers a line of JSON with the number of bytes and their SHA-256.
    Sum,
    /// Sends the pattern: SIZE bytes, or until the client closes.
    Source,
    /// Speaks first: one line of JSON with both addresses and who this is; then echoes.
    Info,
    /// Ends its own stream at once and reads to the client's end; `/stats` tells what arrived.
    HalfClose,
    /// Resets the connection when the first byte arrives (at once when chosen by a line).
    Reset,
    /// Reads nothing and answers nothing until the client is gone.
    Hang,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 9] = [
        Self::Echo,
        Self::Discard,
        Self::Count,
        Self::Sum,
        Self::Source,
        Self::Info,
        Self::HalfClose,
        Self::Reset,
        Self::Hang,
    ];

    /// The word for this mode on the command line, on the wire and in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Source => "source",
            Self::Info => "info",
            Self::HalfClose => "half-close",
            Self::Reset => "reset",
            Self::Hang => "hang",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|mode| mode.name()).collect();
                format!("{text:?} is not a mode: use one of {}", names.join(", "))
            })
    }
}

/// A mode with its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// The mode.
    pub mode: Mode,
    /// SIZE, for the source mode.
    pub size: Option<u64>,
}

impl Command {
    /// Longest line that is read, its newline included.
    pub const MAX_LINE: usize = 64;

    /// Reads a line without its newline.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line = std::str::from_utf8(line).map_err(|_| "the command is not text".to_owned())?;
        let mut words = line.trim_start_matches('!').split_whitespace();
        let mode = words.next().unwrap_or_default().parse()?;
        let size = match words.next() {
            Some(word) => Some(units::parse_size(word).map_err(|error| error.to_string())?),
            None => None,
        };
        match words.next() {
            Some(word) => Err(format!("unexpected {word:?} after the command")),
            None => Ok(Self { mode, size }),
        }
    }

    /// The line that asks for this, newline included.
    pub fn line(self) -> String {
        match self.size {
            Some(size) => format!("!{} {size}\n", self.mode.name()),
            None => format!("!{}\n", self.mode.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("!sum", Ok((Mode::Sum, None))),
            ("!source 1Gi", Ok((Mode::Source, Some(1 << 30)))),
            ("!half-close\r", Ok((Mode::HalfClose, None))),
            ("!", Err(())),
            ("!nosuch", Err(())),
            ("!source many", Err(())),
            ("!source 1 2", Err(())),
        ] {
            let got = Command::parse(line.as_bytes())
                .map(|c| (c.mode, c.size))
                .map_err(|_| ());
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn a_line_reads_back() {
        for mode in Mode::ALL {
            for size in [None, Some(7)] {
                let command = Command { mode, size };
                assert_eq!(
                    Command::parse(command.line().trim_end().as_bytes()),
                    Ok(command)
                );
            }
        }
    }
}
