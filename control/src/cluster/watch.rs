//! What to ask the API server next, to follow a collection. Pure: events and `now` in, a question out.
//!
//! A list first, as a stream where the server gives it so, else in pages; then changes from the version
//! of the list on. What the server says in between decides when to ask what again.

use std::time::{Duration, Instant};

use ambit_core::backoff::Backoff;

/// The first wait after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// A kind that is not there is asked for again after this, if nobody says before that it is defined.
pub const ABSENT: Duration = Duration::from_secs(300);
/// One that was there is asked for again after this, before it is believed to be gone.
const DOUBT: Duration = Duration::from_secs(30);
/// What is defined is served soon: until then it is asked for this often, for this long.
const SOON: Duration = Duration::from_millis(500);
const HOPE: Duration = Duration::from_secs(20);
/// Without an answer for this long, history is not trusted: everything is listed again.
const LONG: Duration = Duration::from_secs(300);
/// A watch that lived this long was a success.
const LIVED: Duration = Duration::from_secs(5);

/// A question, or none for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A watch that begins with all objects.
    Stream,
    /// Some objects, from where the page before ended.
    Page(Option<String>),
    /// A watch of what changed since a version.
    Changes(String),
    /// Nothing before this.
    Wait(Instant),
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A page of a list of this version, and where the next begins.
    Page {
        /// The version of the whole list.
        version: String,
        /// `metadata.continue`, if there is more.
        next: Option<String>,
    },
    /// The watch is open.
    Open,
    /// A streamed list is complete at this version.
    Listed(String),
    /// A change or a bookmark.
    Moved(String),
    /// The watch ended without an error.
    Closed,
    /// Nothing came for too long.
    Silent,
    /// No answer, a refusal, or an error within a watch.
    Failed {
        /// The status, if there was one.
        status: Option<u16>,
        /// How long to leave the server alone.
        after: Option<Duration>,
    },
}

/// What follows for who keeps the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nothing more than what was read.
    Nothing,
    /// A list begins: what is not in it will be gone.
    Begin,
    /// The list is complete.
    Complete,
    /// The server does not have this kind.
    Absent,
}

/// The state of following one collection.
#[derive(Debug)]
pub struct Watch {
    state: State,
    wait: Option<Instant>,
    /// Paths to try, by the version of the API, and the one in use.
    choices: usize,
    choice: usize,
    streams: bool,
    cut: bool,
    backoff: Backoff,
    listed: bool,
    missed: bool,
    open: Option<Instant>,
    failing: Option<Instant>,
    /// It waits for its kind.
    absent: bool,
    hope: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    List,
    Listing { from: Option<String> },
    Following { version: String },
}

impl Watch {
    /// Nothing is known. `choices`: how many versions of the API may be asked for, the best first.
    #[must_use]
    pub fn new(choices: usize) -> Self {
        Self {
            state: State::List,
            wait: None,
            choices,
            choice: 0,
            streams: true,
            cut: false,
            backoff: Backoff::new(FIRST, LONGEST),
            listed: false,
            missed: false,
            open: None,
            failing: None,
            absent: false,
            hope: None,
        }
    }

    /// Which version of the API to ask for.
    #[must_use]
    pub fn choice(&self) -> usize {
        self.choice
    }

    /// What to ask now.
    pub fn next(&mut self, now: Instant) -> (Ask, Follows) {
        match self.wait {
            Some(until) if until > now => return (Ask::Wait(until), Follows::Nothing),
            _ => self.wait = None,
        }
        match &self.state {
            State::List => {
                self.state = State::Listing { from: None };
                let ask = if self.streams {
                    Ask::Stream
                } else {
                    Ask::Page(None)
                };
                (ask, Follows::Begin)
            }
            State::Listing { from } => (Ask::Page(from.clone()), Follows::Nothing),
            State::Following { version } => (Ask::Changes(version.clone()), Follows::Nothing),
        }
    }

    /// Lists everything again, at once.
    pub fn again(&mut self) {
        self.state = State::List;
        self.wait = None;
        self.choice = 0;
    }

    /// Some kind was defined: it may be this one, which is then looked for at once.
    pub fn defined(&mut self, now: Instant) {
        self.hope = Some(now + HOPE);
        if self.absent {
            self.wait = None;
        }
    }

    /// Takes in what was heard. `jitter` is drawn from `0.0..1.0`.
    pub fn hear(&mut self, heard: Heard, now: Instant, jitter: f64) -> Follows {
        match heard {
            Heard::Page { version, next } => {
                self.well();
                match next.filter(|next| !next.is_empty()) {
                    Some(next) => {
                        self.state = State::Listing { from: Some(next) };
                        Follows::Nothing
                    }
                    None => self.complete(version),
                }
            }
            Heard::Open => {
                self.open = Some(now);
                Follows::Nothing
            }
            Heard::Listed(version) => {
                self.well();
                self.cut = false;
                self.complete(version)
            }
            Heard::Moved(version) => {
                // Objects of a streamed list have versions of their own.
                if matches!(self.state, State::Following { .. }) {
                    self.well();
                    self.state = State::Following { version };
                }
                Follows::Nothing
            }
            Heard::Closed | Heard::Silent => {
                let silent = heard == Heard::Silent;
                self.ended(silent, now, jitter);
                Follows::Nothing
            }
            Heard::Failed { status, after } => self.failed(status, after, now, jitter),
        }
    }

    fn complete(&mut self, version: String) -> Follows {
        self.listed = true;
        self.missed = false;
        self.state = State::Following { version };
        Follows::Complete
    }

    fn well(&mut self) {
        self.absent = false;
        self.backoff.reset();
        self.failing = None;
    }

    fn ended(&mut self, silent: bool, now: Instant, jitter: f64) {
        let lived = self.open.take().map(|open| now - open);
        match self.state {
            State::Following { .. } => {
                if lived.is_some_and(|lived| lived >= LIVED) {
                    self.well();
                } else {
                    self.rest(None, now, jitter);
                }
            }
            // A server that takes the question for another one never says that the list is complete.
            State::List | State::Listing { .. } => {
                if silent || self.cut {
                    self.streams = false;
                } else {
                    self.cut = true;
                }
                self.state = State::List;
                self.rest(None, now, jitter);
            }
        }
    }

    fn failed(
        &mut self,
        status: Option<u16>,
        after: Option<Duration>,
        now: Instant,
        jitter: f64,
    ) -> Follows {
        self.open = None;
        let following = matches!(self.state, State::Following { .. });
        let since = *self.failing.get_or_insert(now);
        if !following {
            self.state = State::List;
        }
        match status {
            Some(404) => return self.missing(now),
            // Streamed lists are not known here.
            Some(400 | 422) if !following && self.streams => {
                self.streams = false;
                return Follows::Nothing;
            }
            Some(401 | 403) => {
                self.wait = Some(now + LONGEST.mul_f64(0.5 + 0.5 * jitter));
                return Follows::Nothing;
            }
            // History is gone, or the question makes no sense.
            Some(status) if following && (400..500).contains(&status) && status != 429 => {
                self.state = State::List;
            }
            _ => {}
        }
        if now - since >= LONG {
            self.state = State::List;
        }
        self.rest(after, now, jitter);
        Follows::Nothing
    }

    fn missing(&mut self, now: Instant) -> Follows {
        self.state = State::List;
        if self.choice + 1 < self.choices {
            self.choice += 1;
            return Follows::Nothing;
        }
        self.choice = 0;
        self.failing = None;
        self.absent = true;
        // A server that has just started may not know yet what it had a minute ago.
        let doubtful = self.listed && !self.missed;
        let hopeful = self.hope.is_some_and(|until| now < until);
        self.wait = Some(
            now + match (hopeful, doubtful) {
                (true, _) => SOON,
                (false, true) => DOUBT,
                (false, false) => ABSENT,
            },
        );
        self.missed = true;
        if doubtful {
            Follows::Nothing
        } else {
            self.listed = false;
            Follows::Absent
        }
    }

    fn rest(&mut self, after: Option<Duration>, now: Instant, jitter: f64) {
        let rest = self.backoff.next(jitter).max(after.unwrap_or_default());
        self.wait = Some(now + rest);
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
