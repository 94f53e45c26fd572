//! A backend that does as the test says.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::frames::{HEADERS, SETTINGS, frame, next};
use super::wire::Wire;

/// What an honest server answers.
const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
/// How every client of HTTP/2 begins.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where it agrees to another protocol.
pub(super) const UPGRADES: &str = "/upgrades";

/// The answers by path, and on which connection each request came.
#[derive(Debug, Clone, Default)]
pub(super) struct Evil(Arc<Mutex<Plan>>);

/// Frames for a request of HTTP/2 by its stream.
type Reply = fn(u32) -> Vec<u8>;

#[derive(Debug, Default)]
struct Plan {
    answers: BTreeMap<String, Vec<u8>>,
    greeting: Vec<u8>,
    reply: Option<Reply>,
    requests: Vec<(usize, String)>,
}

impl Evil {
    pub(super) fn listen(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let evil = Self::default();
        let own = evil.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (evil, stream) = (own.clone(), stream.expect("a connection"));
                std::thread::spawn(move || evil.serve(number, Wire::of(stream)));
            }
        });
        evil
    }

    /// What requests for `path` get; others get an honest answer.
    pub(super) fn answer(&self, path: &str, bytes: &[u8]) {
        let mut plan = self.0.lock();
        plan.answers.insert(path.to_owned(), bytes.to_owned());
    }

    /// What clients of HTTP/2 get once they have greeted, and for every request.
    pub(super) fn speak(&self, greeting: Vec<u8>, reply: Reply) {
        let mut plan = self.0.lock();
        (plan.greeting, plan.reply) = (greeting, Some(reply));
    }

    /// Whether `path` was asked for.
    pub(super) fn was_asked(&self, path: &str) -> bool {
        self.0
            .lock()
            .requests
            .iter()
            .any(|(_, asked)| asked == path)
    }

    /// Whether `path` was asked for, and nothing after it on the same connection.
    pub(super) fn was_last(&self, path: &str) -> bool {
        let plan = self.0.lock();
        let mut of = BTreeMap::new();
        for (connection, asked) in &plan.requests {
            of.entry(connection).or_insert_with(Vec::new).push(asked);
        }
        let of: Vec<_> = of
            .values()
            .filter(|asked| asked.iter().any(|it| *it == path))
            .collect();
        !of.is_empty()
            && of
                .iter()
                .all(|asked| asked.last().is_some_and(|it| *it == path))
    }

    fn serve(&self, connection: usize, mut wire: Wire) {
        loop {
            let head = wire.wait(|seen| {
                if seen.starts_with(PREFACE) {
                    return Some((PREFACE.to_vec(), PREFACE.len()));
                }
                let end = seen.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
                Some((seen[..end].to_vec(), end))
            });
            let Some(head) = head else { return };
            if head == PREFACE {
                return self.serve_h2(wire);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = {
                let mut plan = self.0.lock();
                plan.requests.push((connection, path.clone()));
                plan.answers.get(&path).cloned()
            };
            if path == UPGRADES {
                return upgrade(wire);
            }
            wire.send(answer.as_deref().unwrap_or(FINE));
        }
    }

    fn serve_h2(&self, mut wire: Wire) {
        let greeting = self.0.lock().greeting.clone();
        wire.flood([frame(SETTINGS, 0, 0, &[]), greeting].concat());
        while let Some((kind, stream, _)) = wire.wait(next) {
            let reply = self.0.lock().reply;
            if let (HEADERS, Some(reply)) = (kind, reply) {
                wire.flood(reply(stream));
            }
        }
    }
}

/// Switches after it has given a sign of itself; says then what came before that, and sends back what comes after it.
fn upgrade(mut wire: Wire) {
    wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    let before = wire.glance();
    wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    wire.send(&[b"(before: ", &*before, b")"].concat());
    let some = |seen: &[u8]| (!seen.is_empty()).then(|| (seen.to_vec(), seen.len()));
    while let Some(bytes) = wire.wait(some) {
        wire.send(&bytes);
    }
}
