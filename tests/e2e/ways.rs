//! How connections end on one way from a client to a server: a reset stays a reset, and one direction ends without the other.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually, program};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// SHA-256 of `abc` (FIPS 180-2, appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// One way from a client to a server.
pub(crate) struct Way<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) from: &'static str,
    /// `HOST:PORT` of the shared port of `server`.
    pub(crate) to: String,
    pub(crate) server: &'static str,
}

impl Way<'_> {
    /// What the server counts of connections in `mode`.
    fn counts(&self, mode: &str) -> Value {
        let stats = self.lab.get(self.server, "http://127.0.0.1:8080/stats");
        stats[mode].clone()
    }

    /// What the server has seen when the next connection in `mode` is over, which `run` makes.
    fn seen(&self, mode: &str, run: impl FnOnce()) -> (u64, Value) {
        let number = |counts: &Value, name: &str| counts[name].as_u64().unwrap_or_default();
        let before = self.counts(mode);
        run();
        let what = format!("{} to end a connection in {mode}", self.server);
        let after = eventually(&what, PATIENCE, || {
            let counts = self.counts(mode);
            let one = number(&counts, "connections") == number(&before, "connections") + 1;
            (one && number(&counts, "open") == 0).then_some(counts)
        });
        let resets = number(&after, "resets") - number(&before, "resets");
        (resets, after)
    }

    fn tcp(&self, more: &[&str]) -> ambit_lab::harness::Ran {
        let arguments = ["tcp", &self.to, "--timeout", "20s"];
        self.lab.load(self.from, &[&arguments, more].concat())
    }

    pub(crate) fn check(&self) {
        let to = &self.to;
        let (resets, _) = self.seen("info", || {
            let sent = ["--send", "!info\n", "--keep-open", "--reset"];
            let said = self.tcp(&sent).success();
            assert!(said.contains("remote_address"), "{to}: {said}");
        });
        assert_eq!(resets, 1, "{to}: a reset of the client");

        let said = self.tcp(&["--send", "!reset\n", "--keep-open"]).failure();
        assert!(said.contains("Connection reset by peer"), "{to}: {said}");

        let (resets, _) = self.seen("sum", || {
            let said = self.tcp(&["--send", "!sum\nabc"]).success();
            assert!(said.contains(ABC), "{to}: {said}");
        });
        assert_eq!(resets, 0, "{to}: the client ended, and read on");

        // More than fits on the way, after the client's end.
        let (resets, _) = self.seen("source", || {
            let load = program("load").display().to_string();
            let script = format!("{load} tcp {to} --send '!source 8Mi\n' | wc -c");
            let said = self.lab.exec(self.from, &["sh", "-c", &script]).success();
            assert_eq!(said.trim(), "8388608", "{to}");
        });
        assert_eq!(resets, 0, "{to}: the client ended, and read much");

        let (resets, counts) = self.seen("half-close", || {
            let sent = [
                "--send",
                "!half-close\n",
                "--keep-open",
                "--send-after",
                "abc",
            ];
            let _ = self.tcp(&sent).success();
        });
        assert_eq!(resets, 0, "{to}: the server ended, and read on");
        assert_eq!(counts["last_sha256"], ABC, "{to}: {counts}");
    }
}
