//! A watch's body as lines: each is one event.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;

/// No event is longer: an object has at most 1.5 MiB in etcd, more as JSON.
const LONGEST: usize = 32 << 20;

/// The lines of a body.
pub struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer is known to have no end of a line.
    searched: usize,
}

/// Why there are no more lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum End {
    #[error("the watch was closed")]
    Closed,
    #[error("the watch was silent for {0:?}")]
    Silent(Duration),
    #[error("the watch broke: {0}")]
    Broken(String),
    #[error("an event is longer than {LONGEST} bytes")]
    TooLong,
}

impl Lines {
    /// Of a body from its start.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line, without its end. What is cut off in the middle is no line.
    ///
    /// # Errors
    /// There is none, or nothing came for `silence`.
    pub async fn next(&mut self, silence: Duration) -> Result<Bytes, End> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|b| *b == b'\n')
            {
                let line = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST {
                return Err(End::TooLong);
            }
            match tokio::time::timeout(silence, self.body.frame()).await {
                Err(_) => return Err(End::Silent(silence)),
                Ok(None) => return Err(End::Closed),
                Ok(Some(Err(error))) => return Err(End::Broken(error.to_string())),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a", &[]),
            ("a\n", &["a"]),
            ("a\n\n \nb\ncut", &["a", "b"]),
        ];
        for (text, expected) in cases {
            let mut lines = Lines::new(Body::from(text.as_bytes().to_vec()));
            let mut found = Vec::new();
            while let Ok(line) = lines.next(Duration::from_secs(1)).await {
                found.push(String::from_utf8(line.to_vec()).expect("text"));
            }
            assert_eq!(found, *expected, "{text:?}");
        }
    }
}
