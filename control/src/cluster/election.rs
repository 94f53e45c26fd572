//! Who holds a Lease. Pure: what was read and written and `now` in, what to do next out.
//!
//! Clocks of replicas are not compared, only how fast they run. A holder takes itself for one until
//! [`RENEW`] after it *began* its last successful write; another one takes the Lease no sooner than
//! [`DURATION`] after it *saw* that write. So there are never two while clocks run alike within a fifth.

use std::time::{Duration, Instant};

/// How long a Lease holds without being renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long is none any more.
pub const RENEW: Duration = Duration::from_secs(10);
/// How often the Lease is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The holder; empty when it was given back.
    pub holder: String,
    /// How often the holder changed.
    pub transitions: i32,
}

/// A record as it was read, with the version it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    #[allow(missing_docs)]
    pub record: Record,
    /// `resourceVersion`: another one after every write.
    pub version: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Read the Lease.
    Read,
    /// Create it so; fails when there is one.
    Create(Record),
    /// Replace it, if it still has this version.
    Replace(Record, String),
    /// Nothing before this.
    Wait(Instant),
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// It is done, and the Lease has this version now.
    Done(String),
    /// Somebody else was faster.
    Conflict,
    /// It is not known whether it is done.
    Unknown,
}

/// One replica's part in an election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    /// What was seen last, `None` for a Lease that does not exist, and when it was first seen so.
    seen: Option<(Option<Seen>, Instant)>,
    /// Until when this replica is the holder.
    until: Option<Instant>,
    next: Option<Instant>,
    /// It has to be read before anything else.
    read: bool,
}

impl Election {
    /// Nothing is known.
    #[must_use]
    pub fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            until: None,
            next: None,
            read: true,
        }
    }

    /// Until when this replica is the holder; `None` when it is not.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Do {
        if let Some(next) = self.next.filter(|next| now < *next) {
            return Do::Wait(next);
        }
        let Some((seen, since)) = self.seen.as_ref().filter(|_| !self.read) else {
            return Do::Read;
        };
        let Some(seen) = seen else {
            return Do::Create(self.record(0));
        };
        let transitions = seen.record.transitions;
        if seen.record.holder == self.identity {
            // Mine, or of a process of my name before me: nobody else may take it meanwhile.
            return Do::Replace(self.record(transitions), seen.version.clone());
        }
        if seen.record.holder.is_empty() || now >= *since + DURATION {
            let record = self.record(transitions.saturating_add(1));
            return Do::Replace(record, seen.version.clone());
        }
        Do::Read
    }

    /// The Lease was read; `None` when there is none.
    pub fn read(&mut self, found: Option<Seen>, now: Instant) {
        let same = matches!(&self.seen, Some((before, _)) if *before == found);
        if !same {
            self.seen = Some((found, now));
        }
        self.read = false;
        let mine = self.seen.as_ref().is_some_and(|(seen, since)| match seen {
            None => true,
            Some(seen) => {
                seen.record.holder == self.identity
                    || seen.record.holder.is_empty()
                    || now >= *since + DURATION
            }
        });
        if !mine {
            self.until = None;
            self.rest(now);
        }
    }

    /// It could not be read.
    pub fn unread(&mut self, now: Instant) {
        self.rest(now);
    }

    /// A write that began at `began` is over.
    pub fn wrote(&mut self, record: &Record, wrote: Wrote, began: Instant, now: Instant) {
        match wrote {
            Wrote::Done(version) => {
                let record = record.clone();
                let mine = record.holder == self.identity;
                self.seen = Some((Some(Seen { record, version }), now));
                self.until = mine.then(|| began + RENEW);
                self.rest(now);
            }
            Wrote::Conflict => {
                self.until = None;
                self.read = true;
            }
            Wrote::Unknown => {
                self.read = true;
                self.rest(now);
            }
        }
    }

    /// What gives the Lease back, if it is mine.
    pub fn give_back(&mut self, now: Instant) -> Option<(Record, String)> {
        self.until(now)?;
        self.until = None;
        let (Some(seen), _) = self.seen.take()? else {
            return None;
        };
        let record = Record {
            holder: String::new(),
            transitions: seen.record.transitions,
        };
        Some((record, seen.version))
    }

    fn record(&self, transitions: i32) -> Record {
        Record {
            holder: self.identity.clone(),
            transitions,
        }
    }

    fn rest(&mut self, now: Instant) {
        self.next = Some(now + PERIOD);
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
