use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;

use super::*;

/// An output that a test can read.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("UTF-8")
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, filter: &str, act: impl FnOnce(&Logging)) -> String {
    let captured = Captured::default();
    let sink = Sink::new(captured.clone());
    let (logging, subscriber) = Logging::new(format, filter, sink.clone()).expect("a filter");
    tracing::subscriber::with_default(subscriber, || act(&logging));
    sink.flush();
    captured.text()
}

#[test]
fn plain_lines_have_time_level_scope_message_and_fields() {
    let text = logged(Format::Plain, "info", |_| {
        tracing::info!(target: "ambit_net::xds", pods = 3, name = "a \"b\"\nc", at = %"x", "hello");
    });
    let parts: Vec<&str> = text.trim_end().split('\t').collect();
    assert_eq!(parts[1..4], ["info", "net::xds", "hello"]);
    assert_eq!(parts[4], r#"pods=3 name="a \"b\"\nc" at="x""#);
    assert_eq!(text.lines().count(), 1, "a value cannot start a line");
}

#[test]
fn json_lines_are_json_with_the_target_in_scope() {
    let text = logged(Format::Json, "info", |_| {
        tracing::warn!(target: "access", ok = false, n = 7u64, who = "\u{1}\"", "done\n");
    });
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["scope"], "access");
    assert_eq!(value["level"], "warn");
    assert_eq!(value["message"], "done\n");
    assert_eq!(value["ok"], false);
    assert_eq!(value["n"], 7);
    assert_eq!(value["who"], "\u{1}\"");
    assert!(value["time"].as_str().is_some_and(|t| t.ends_with('Z')));
}

#[test]
fn the_level_changes_while_running() {
    let text = logged(Format::Plain, "info", |logging| {
        tracing::debug!("one");
        logging.set_level(false, "debug").expect("a level");
        tracing::debug!("two");
        logging
            .set_level(false, "no=such=level")
            .expect_err("refused");
        tracing::debug!("three");
        logging.set_level(true, "").expect("back");
        tracing::debug!("four");
        logging.set_level(false, "quiet=off").expect("a target");
        tracing::info!(target: "quiet", "five");
        tracing::info!("six");
    });
    for (word, shown) in [
        ("one", false),
        ("two", true),
        ("three", true),
        ("four", false),
        ("five", false),
        ("six", true),
    ] {
        assert_eq!(text.contains(word), shown, "{word}");
    }
}

#[test]
fn timestamps_are_utc() {
    for (seconds, micros, shown) in [
        (0, 0, "1970-01-01T00:00:00.000000Z"),
        (951_782_400, 1, "2000-02-29T00:00:00.000001Z"),
        (1_735_689_599, 999_999, "2024-12-31T23:59:59.999999Z"),
        (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        (253_402_300_799, 0, "9999-12-31T23:59:59.000000Z"),
    ] {
        let at = UNIX_EPOCH + Duration::new(seconds, micros * 1000);
        assert_eq!(utc(at), shown);
    }
}

/// An output that counts what it is given at once.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<Vec<usize>>>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().push(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_follow_closely_are_written_together() {
    let counted = Counted::default();
    let sink = Sink::new(counted.clone());
    for _ in 0..1000 {
        sink.write_lines(b"a line\n");
    }
    sink.flush();
    let written = counted.0.lock().clone();
    assert_eq!(written.iter().sum::<usize>(), 7000);
    assert!(written.len() < 100, "{written:?}");
}

#[test]
fn a_line_needs_nobody_to_follow_it() {
    let captured = Captured::default();
    let sink = Sink::new(captured.clone());
    sink.write_lines(b"alone\n");
    while captured.text().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(captured.text(), "alone\n");
}

/// An output whose reader has stopped reading, until it is released.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_costs_lines_not_memory() {
    let (release, held) = std::sync::mpsc::channel();
    let sink = Sink::new(Stuck(held));
    let line = vec![b'x'; 64 * 1024];
    for _ in 0..200 {
        sink.write_lines(&line);
    }
    assert!(sink.dropped() > 50, "dropped {}", sink.dropped());
    drop(release);
    sink.flush();
}
