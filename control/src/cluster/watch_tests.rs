//! Each row: what is heard, and what is asked then.

use super::*;

/// The machine with a clock that jumps to the end of every wait.
struct Case {
    watch: Watch,
    now: Instant,
    /// Waits so far, in milliseconds.
    waited: Vec<u128>,
}

impl Case {
    fn new(choices: usize) -> Self {
        Self {
            watch: Watch::new(choices),
            now: Instant::now(),
            waited: Vec::new(),
        }
    }

    /// The next question that is no wait.
    fn ask(&mut self) -> (Ask, Follows) {
        match self.watch.next(self.now) {
            (Ask::Wait(until), _) => {
                self.waited.push((until - self.now).as_millis());
                self.now = until;
                self.ask()
            }
            asked => asked,
        }
    }

    fn hear(&mut self, heard: Heard) -> Follows {
        self.watch.hear(heard, self.now, 1.0)
    }

    /// Asked, listed, following from version 7.
    fn following() -> Self {
        let mut case = Self::new(1);
        case.ask();
        case.hear(Heard::Open);
        assert_eq!(case.hear(Heard::Listed("7".into())), Follows::Complete);
        assert_eq!(case.ask().0, Ask::Changes("7".into()));
        case
    }
}

fn failed(status: u16) -> Heard {
    Heard::Failed {
        status: Some(status),
        after: None,
    }
}

fn page(version: &str, next: Option<&str>) -> Heard {
    Heard::Page {
        version: version.into(),
        next: next.map(Into::into),
    }
}

#[test]
fn while_changes_are_followed() {
    let changes = |version: &str| Ask::Changes(version.into());
    let rows: Vec<(&str, Vec<Heard>, Ask, Vec<u128>)> = vec![
        (
            "events and bookmarks move the version",
            vec![
                Heard::Open,
                Heard::Moved("8".into()),
                Heard::Moved("9".into()),
                Heard::Closed,
            ],
            changes("9"),
            vec![200],
        ),
        ("silence", vec![Heard::Silent], changes("7"), vec![200]),
        ("410", vec![failed(410)], Ask::Stream, vec![200]),
        ("400", vec![failed(400)], Ask::Stream, vec![200]),
        ("429", vec![failed(429)], changes("7"), vec![200]),
        ("500", vec![failed(500)], changes("7"), vec![200]),
        (
            "Retry-After is obeyed",
            vec![Heard::Failed {
                status: Some(429),
                after: Some(Duration::from_secs(7)),
            }],
            changes("7"),
            vec![7000],
        ),
        (
            "no answer",
            vec![Heard::Failed {
                status: None,
                after: None,
            }],
            changes("7"),
            vec![200],
        ),
        ("forbidden", vec![failed(403)], changes("7"), vec![10_000]),
    ];
    for (name, heard, expected, waits) in rows {
        let mut case = Case::following();
        for heard in heard {
            case.hear(heard);
        }
        let (asked, follows) = case.ask();
        assert_eq!(
            (asked, case.waited.clone()),
            (expected.clone(), waits),
            "{name}"
        );
        let begins = if expected == Ask::Stream {
            Follows::Begin
        } else {
            Follows::Nothing
        };
        assert_eq!(follows, begins, "{name}");
    }
}

#[test]
fn a_watch_that_lived_is_asked_again_at_once() {
    let mut case = Case::following();
    case.hear(Heard::Open);
    case.now += LIVED;
    case.hear(Heard::Closed);
    assert_eq!(case.ask().0, Ask::Changes("7".into()));
    assert!(case.waited.is_empty());
}

#[test]
fn waits_grow_until_something_is_heard() {
    let mut case = Case::following();
    for _ in 0..9 {
        case.hear(failed(500));
        case.ask();
    }
    let grown = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
    assert_eq!(case.waited, grown);
    case.hear(Heard::Open);
    case.hear(Heard::Moved("8".into()));
    case.hear(failed(500));
    assert_eq!(case.ask().0, Ask::Changes("8".into()));
    assert_eq!(case.waited.last(), Some(&200));
}

#[test]
fn after_a_long_silence_everything_is_listed() {
    let mut case = Case::following();
    let start = case.now;
    loop {
        case.hear(Heard::Failed {
            status: None,
            after: None,
        });
        let (asked, follows) = case.ask();
        if asked == Ask::Stream {
            assert_eq!(follows, Follows::Begin);
            assert!(case.now - start >= LONG);
            break;
        }
        assert!(case.now - start < LONG + LONGEST, "it gives up in time");
    }
}

#[test]
fn servers_without_streamed_lists_give_pages() {
    let rows: [(&str, Vec<Heard>); 4] = [
        ("refused as invalid", vec![failed(422)]),
        ("refused as unknown", vec![failed(400)]),
        ("never complete", vec![Heard::Open, Heard::Silent]),
        ("cut off", vec![Heard::Open, Heard::Closed]),
    ];
    for (name, heard) in rows {
        let mut case = Case::new(1);
        assert_eq!(case.ask(), (Ask::Stream, Follows::Begin), "{name}");
        for heard in heard {
            case.hear(heard);
        }
        if name == "cut off" {
            assert_eq!(case.ask(), (Ask::Stream, Follows::Begin), "once is chance");
            case.hear(Heard::Closed);
        }
        assert_eq!(case.ask(), (Ask::Page(None), Follows::Begin), "{name}");
        assert_eq!(case.hear(page("5", Some("more"))), Follows::Nothing);
        assert_eq!(
            case.ask(),
            (Ask::Page(Some("more".into())), Follows::Nothing)
        );
        assert_eq!(case.hear(page("5", Some(""))), Follows::Complete, "{name}");
        assert_eq!(case.ask().0, Ask::Changes("5".into()), "{name}");
    }
}

#[test]
fn a_list_that_fails_begins_anew() {
    for status in [410, 429, 500, 504] {
        let mut case = Case::new(1);
        case.ask();
        case.hear(failed(422));
        case.ask();
        case.hear(page("5", Some("more")));
        case.ask();
        case.hear(failed(status));
        assert_eq!(case.ask(), (Ask::Page(None), Follows::Begin), "{status}");
    }
}

#[test]
fn a_kind_that_is_not_there_is_asked_for_again() {
    let mut case = Case::new(2);
    case.ask();
    assert_eq!(
        (case.hear(failed(404)), case.watch.choice()),
        (Follows::Nothing, 1)
    );
    assert_eq!(case.ask(), (Ask::Stream, Follows::Begin));
    assert_eq!(
        (case.hear(failed(404)), case.watch.choice()),
        (Follows::Absent, 0)
    );
    assert_eq!(case.ask(), (Ask::Stream, Follows::Begin));
    assert_eq!(case.waited, [ABSENT.as_millis()]);
}

#[test]
fn a_kind_that_was_there_is_gone_when_that_is_said_twice() {
    let mut case = Case::following();
    assert_eq!(case.hear(failed(404)), Follows::Nothing);
    assert_eq!(case.ask(), (Ask::Stream, Follows::Begin));
    assert_eq!(case.hear(failed(404)), Follows::Absent);
    assert_eq!(case.waited, [DOUBT.as_millis()]);
}

#[test]
fn a_kind_that_is_defined_is_looked_for_at_once_and_until_it_is_served() {
    let mut case = Case::new(1);
    case.ask();
    assert_eq!(case.hear(failed(404)), Follows::Absent);
    case.watch.defined(case.now);
    assert_eq!(case.ask(), (Ask::Stream, Follows::Begin));
    // It is defined and not served yet.
    assert_eq!(case.hear(failed(404)), Follows::Absent);
    assert_eq!(case.ask(), (Ask::Stream, Follows::Begin));
    assert_eq!(case.hear(Heard::Listed("1".into())), Follows::Complete);
    assert_eq!(case.waited, [SOON.as_millis()]);
    // Other kinds are no business of one that is there, nor of one that rests for another reason.
    case.watch.defined(case.now);
    assert_eq!(case.ask().0, Ask::Changes("1".into()));
    case.hear(failed(500));
    case.watch.defined(case.now);
    assert!(matches!(case.watch.next(case.now).0, Ask::Wait(_)));
}

#[test]
fn versions_of_objects_within_a_list_are_not_the_lists() {
    let mut case = Case::new(1);
    case.ask();
    case.hear(Heard::Open);
    case.hear(Heard::Moved("3".into()));
    case.hear(Heard::Closed);
    assert_eq!(case.ask(), (Ask::Stream, Follows::Begin));
}
