//! Starts the programs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A running `echo`; it ends with this value.
pub(crate) struct Echo {
    process: Child,
    addresses: Vec<SocketAddr>,
}

impl Echo {
    /// Starts it on free loopback ports, one for each of `modes` (empty for the shared port).
    pub(crate) fn start(modes: &[&str]) -> Self {
        Self::start_with(modes, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(modes: &[&str], more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo"));
        for mode in modes {
            let port = if mode.is_empty() {
                "0".to_owned()
            } else {
                format!("{mode}=0")
            };
            command.args(["--port", &port]);
        }
        command.args([
            "--version-label",
            "v7",
            "--pod-name",
            "echo-0",
            "--pod-namespace",
            "tests",
        ]);
        command.args(more);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("echo starts");
        let stderr = process.stderr.take().expect("stderr is piped");
        let lines = BufReader::new(stderr).lines().take(modes.len());
        let addresses = lines
            .map(|line| {
                let line = line.expect("echo says where it listens");
                let word = line.split(' ').nth(2).expect("listening on ADDRESS");
                word.parse().expect("an address")
            })
            .collect();
        Self { process, addresses }
    }

    pub(crate) fn v4(&self, index: usize) -> SocketAddr {
        SocketAddr::new([127, 0, 0, 1].into(), self.addresses[index].port())
    }

    pub(crate) fn v6(&self, index: usize) -> SocketAddr {
        SocketAddr::new(
            std::net::Ipv6Addr::LOCALHOST.into(),
            self.addresses[index].port(),
        )
    }

    /// `/stats` of the shared port at `index`.
    pub(crate) fn stats(&self, index: usize) -> Value {
        let url = format!("http://{}/stats", self.v4(index));
        serde_json::from_slice(&load(&["get", &url], "").stdout).expect("stats are JSON")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `load` with some standard input to its end.
pub(crate) fn load(arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("load starts");
    let mut stdin = process.stdin.take().expect("stdin is piped");
    // A program that does not read its input may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    process.wait_with_output().expect("load ends")
}

/// Runs `load --json` and answers its last line, after checking its exit status.
pub(crate) fn report(arguments: &[&str], succeeds: bool) -> Value {
    let output = load(&[arguments, &["--json"]].concat(), "");
    let text = String::from_utf8(output.stdout).expect("text");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.success(),
        succeeds,
        "{arguments:?}: {text} {errors}"
    );
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}
