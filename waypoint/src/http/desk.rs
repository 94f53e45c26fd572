//! What the server of a connection and a request that it has given away tell each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::h1::Reader;

/// Of one connection of HTTP/1.1, or of one request of HTTP/2.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// There is something to know: most who look find that there is not.
    told: AtomicBool,
}

#[derive(Default)]
struct State {
    wanted: bool,
    interim: VecDeque<(StatusCode, HeaderMap)>,
    reader: Option<(Reader, bool)>,
    waker: Option<Waker>,
}

/// What there is to know.
pub(super) enum Note {
    /// Somebody wants the body: a client that waits for 100 gets it.
    BodyWanted,
    /// The backend has sent an interim response.
    Interim(StatusCode, HeaderMap),
    /// Nobody reads the request's body any more; whether all of it was read.
    Reader(Reader, bool),
}

impl Desk {
    pub(super) fn body_wanted(&self) {
        self.tell(|state| state.wanted = true);
    }

    pub(super) fn interim(&self, status: StatusCode, headers: HeaderMap) {
        self.tell(|state| state.interim.push_back((status, headers)));
    }

    pub(super) fn give_back(&self, reader: Reader, complete: bool) {
        self.tell(|state| state.reader = Some((reader, complete)));
    }

    /// The next note.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Note> {
        let mut state = self.state.lock();
        if let Some(note) = state.next() {
            return Poll::Ready(note);
        }
        self.told.store(false, Ordering::Relaxed);
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The same without waiting.
    pub(super) fn next(&self) -> Option<Note> {
        if !self.told.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        let note = state.next();
        self.told.store(note.is_some(), Ordering::Relaxed);
        note
    }

    fn tell(&self, note: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state.lock();
            note(&mut state);
            self.told.store(true, Ordering::Release);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Note> {
        if std::mem::take(&mut self.wanted) {
            return Some(Note::BodyWanted);
        }
        if let Some((status, headers)) = self.interim.pop_front() {
            return Some(Note::Interim(status, headers));
        }
        let (reader, complete) = self.reader.take()?;
        Some(Note::Reader(reader, complete))
    }
}
