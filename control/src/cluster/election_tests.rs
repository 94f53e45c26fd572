//! Rows of one replica's life, and many replicas with clocks and networks of their own.

use proptest::prelude::*;

use super::*;

fn seen(holder: &str, version: &str) -> Option<Seen> {
    Some(Seen {
        record: Record {
            holder: holder.into(),
            transitions: 3,
        },
        version: version.into(),
    })
}

fn record(holder: &str, transitions: i32) -> Record {
    Record {
        holder: holder.into(),
        transitions,
    }
}

#[test]
fn what_follows_from_what_was_read() {
    let replace = |transitions| Do::Replace(record("me", transitions), "7".into());
    let rows = [
        ("there is none", None, 0, Do::Create(record("me", 0))),
        ("it is mine", seen("me", "7"), 0, replace(3)),
        ("it was given back", seen("", "7"), 0, replace(4)),
        ("another's", seen("other", "7"), 0, Do::Wait(Instant::now())),
        ("another's, for a while", seen("other", "7"), 14, Do::Read),
        (
            "another's, for too long",
            seen("other", "7"),
            15,
            replace(4),
        ),
    ];
    for (name, found, later, expected) in rows {
        let start = Instant::now();
        let mut election = Election::new("me".into());
        assert_eq!(election.next(start), Do::Read, "{name}");
        election.read(found, start);
        let found = election.next(start + Duration::from_secs(later));
        match expected {
            Do::Wait(_) => assert_eq!(found, Do::Wait(start + PERIOD), "{name}"),
            expected => assert_eq!(found, expected, "{name}"),
        }
        assert_eq!(election.until(start), None, "{name}");
    }
}

#[test]
fn a_holder_renews_and_is_none_when_it_cannot() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut election = Election::new("me".into());
    election.read(None, start);
    let mine = record("me", 0);
    // Slow writes count from their begin.
    election.wrote(&mine, Wrote::Done("1".into()), start, at(3));
    assert_eq!(election.until(at(3)), Some(start + RENEW));
    assert_eq!(election.next(at(4)), Do::Wait(at(5)));
    assert_eq!(election.next(at(5)), Do::Replace(mine.clone(), "1".into()));
    election.wrote(&mine, Wrote::Unknown, at(5), at(6));
    assert_eq!(election.until(at(6)), Some(start + RENEW));
    assert_eq!(election.next(at(8)), Do::Read);
    election.unread(at(9));
    assert_eq!(election.until(at(10)), None);
    // It had been written: mine again, from the next write on.
    election.read(seen("me", "2"), at(11));
    assert_eq!(election.until(at(11)), None);
    assert_eq!(
        election.next(at(11)),
        Do::Replace(record("me", 3), "2".into())
    );
    election.wrote(&record("me", 3), Wrote::Conflict, at(11), at(11));
    assert_eq!(
        (election.until(at(11)), election.next(at(11))),
        (None, Do::Read)
    );
}

#[test]
fn a_holder_gives_back() {
    let start = Instant::now();
    let mut election = Election::new("me".into());
    election.read(None, start);
    assert_eq!(election.give_back(start), None);
    election.wrote(&record("me", 0), Wrote::Done("1".into()), start, start);
    assert_eq!(election.give_back(start), Some((record("", 0), "1".into())));
    assert_eq!(election.until(start), None);
}

/// The API server: one Lease, whose writes are checked.
#[derive(Default)]
struct Server {
    lease: Option<Seen>,
    version: u64,
}

impl Server {
    fn write(&mut self, record: Record, expected: Option<&str>) -> Wrote {
        if self.lease.as_ref().map(|lease| lease.version.as_str()) != expected {
            return Wrote::Conflict;
        }
        self.version += 1;
        let version = self.version.to_string();
        self.lease = Some(Seen {
            record,
            version: version.clone(),
        });
        Wrote::Done(version)
    }
}

/// A replica whose clock runs at a speed of its own.
struct Replica {
    election: Election,
    speed: f64,
    begin: Instant,
    /// The answer on its way, when it comes, and when it was asked for, by the replica's clock.
    awaits: Option<(u64, Instant, Answer)>,
}

enum Answer {
    Read(Option<Option<Seen>>),
    Wrote(Record, Wrote),
}

impl Replica {
    fn now(&self, millis: u64) -> Instant {
        self.begin + Duration::from_millis(millis).mul_f64(self.speed)
    }

    /// One step at a time of the world. `fate` decides how long requests take and whether they get through.
    fn step(&mut self, millis: u64, server: &mut Server, fate: &mut impl FnMut() -> u8) {
        let now = self.now(millis);
        match self.awaits.take() {
            Some((when, began, answer)) if when <= millis => match answer {
                Answer::Read(Some(found)) => self.election.read(found, now),
                Answer::Read(None) => self.election.unread(now),
                Answer::Wrote(record, wrote) => self.election.wrote(&record, wrote, began, now),
            },
            Some(awaits) => {
                self.awaits = Some(awaits);
                return;
            }
            None => {}
        }
        let asked = self.election.next(now);
        let (luck, delay) = (fate(), u64::from(fate()) * 20);
        // One in eight does not arrive, and of one in eight the answer is lost.
        let (arrives, answered) = (luck % 8 != 0, luck % 8 > 1);
        let answer = match asked {
            Do::Wait(_) => return,
            Do::Read => Answer::Read((arrives && answered).then(|| server.lease.clone())),
            Do::Create(record) => {
                let wrote = if arrives {
                    server.write(record.clone(), None)
                } else {
                    Wrote::Unknown
                };
                Answer::Wrote(record, if answered { wrote } else { Wrote::Unknown })
            }
            Do::Replace(record, version) => {
                let wrote = if arrives {
                    server.write(record.clone(), Some(&version))
                } else {
                    Wrote::Unknown
                };
                Answer::Wrote(record, if answered { wrote } else { Wrote::Unknown })
            }
        };
        self.awaits = Some((millis + delay, now, answer));
    }
}

proptest! {
    #[test]
    fn there_are_never_two_holders(
        speeds in proptest::collection::vec(0.9..1.1_f64, 2..5),
        fates in proptest::collection::vec(any::<u8>(), 4096),
        // Of these replicas nothing gets through from then on.
        cut in (0_usize..5, 0_u64..60_000),
    ) {
        let mut server = Server::default();
        let mut at = 0;
        let begin = Instant::now();
        let mut replicas: Vec<Replica> = speeds
            .iter()
            .enumerate()
            .map(|(n, speed)| Replica {
                election: Election::new(format!("replica-{n}")),
                speed: *speed,
                begin,
                awaits: None,
            })
            .collect();
        let mut held = 0;
        for millis in (0..120_000).step_by(50) {
            for (n, replica) in replicas.iter_mut().enumerate() {
                let lost = n == cut.0 && millis >= cut.1;
                let mut fate = || {
                    at = (at + 1) % fates.len();
                    if lost { 0 } else { fates[at] }
                };
                replica.step(millis, &mut server, &mut fate);
            }
            let holders = replicas.iter().filter(|it| it.election.until(it.now(millis)).is_some());
            let holders = holders.count();
            prop_assert!(holders <= 1, "{} holders at {} ms", holders, millis);
            held += holders;
        }
        prop_assert!(held > 0, "somebody holds it at times");
    }
}
