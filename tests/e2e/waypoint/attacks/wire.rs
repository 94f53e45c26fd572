//! Connections of pods whose one end is in the test, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use ambit_lab::harness::eventually;

/// How long an answer may take, and the end of a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    /// What has come and was not looked at.
    seen: Vec<u8>,
    closed: bool,
}

impl Wire {
    /// A connection of the pod that carries for `socket`.
    pub(super) fn dial(socket: &Path, to: SocketAddr) -> Self {
        let stream = eventually("the pod that carries", PATIENCE, || {
            UnixStream::connect(socket).ok()
        });
        let mut wire = Self::of(stream);
        wire.send(format!("{to}\n").as_bytes());
        wire
    }

    /// The other end of a connection of a pod.
    pub(super) fn of(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a socket takes a timeout");
        Self {
            stream,
            seen: Vec::new(),
            closed: false,
        }
    }

    /// Sends; a peer that has closed already is no fault of the test.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends without waiting for the peer to take it, which it may not while nobody reads its answers.
    pub(super) fn flood(&self, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().expect("a socket can be shared");
        std::thread::spawn(move || {
            let _ = stream.write_all(&bytes);
        });
    }

    /// Waits for something that `find` makes of the first bytes, and says how many it used up. `None` when
    /// the connection ended before.
    pub(super) fn take<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&[u8]) -> Option<(T, usize)>,
    ) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((found, used)) = find(&self.seen) {
                self.seen.drain(..used);
                return Some(found);
            }
            if self.closed {
                return None;
            }
            let shown = String::from_utf8_lossy(&self.seen);
            assert!(Instant::now() < deadline, "{what}: after {shown:?}");
            self.fill();
        }
    }

    /// The same without an end to the patience: for servers.
    pub(super) fn wait<T>(
        &mut self,
        mut find: impl FnMut(&[u8]) -> Option<(T, usize)>,
    ) -> Option<T> {
        loop {
            if let Some((found, used)) = find(&self.seen) {
                self.seen.drain(..used);
                return Some(found);
            }
            if self.closed {
                return None;
            }
            self.fill();
        }
    }

    /// Everything up to the end of the connection.
    pub(super) fn rest(&mut self, what: &str) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while !self.closed {
            let shown = String::from_utf8_lossy(&self.seen);
            assert!(Instant::now() < deadline, "{what}: open after {shown:?}");
            self.fill();
        }
        std::mem::take(&mut self.seen)
    }

    /// What has come so far, and what comes in a moment.
    pub(super) fn glance(&mut self) -> Vec<u8> {
        self.fill();
        std::mem::take(&mut self.seen)
    }

    fn fill(&mut self) {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => self.closed = true,
            Ok(read) => self.seen.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
    }
}

/// A response of HTTP/1.1.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Wire {
    /// The next response of HTTP/1.1, interim or final; `None` when the connection ended without one.
    pub(super) fn response(&mut self, what: &str) -> Option<Answer> {
        self.take(what, answer)
    }

    /// The next final response of HTTP/1.1; `None` when the connection ended without one.
    pub(super) fn answer(&mut self, what: &str) -> Option<Answer> {
        loop {
            let answer = self.response(what)?;
            if answer.status >= 200 {
                return Some(answer);
            }
        }
    }
}

/// A whole response at the front of `seen`, and its length.
fn answer(seen: &[u8]) -> Option<(Answer, usize)> {
    let end = seen.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&seen[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().expect("a length"))
    });
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let rest = &seen[end..];
    let size = match length {
        Some(length) if rest.len() >= length => length,
        Some(_) => return None,
        None if chunked => rest.windows(5).position(|it| it == b"0\r\n\r\n")? + 5,
        None => 0,
    };
    let body = String::from_utf8_lossy(&rest[..size]).into_owned();
    Some((Answer { status, head, body }, end + size))
}

/// An address with a port.
pub(super) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port)
}
