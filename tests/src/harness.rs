//! Labs for tests: each has a name of its own, ends with its test, and can be asked as a person would,
//! through the `lab` command. What goes wrong is a panic that says what was run and what it said.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::sys;

/// The last line of a lab that is up.
const UP: &str = "Ctrl-C ends it";

/// What a lab of a test is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The mesh, or pods and services alone.
    pub mesh: bool,
    /// In a user namespace, also when the tests run as root.
    pub rootless: bool,
    /// Joined to an API server, which the arguments name: no manifests, and no mesh of its own.
    pub joined: bool,
    /// More arguments for `lab up`.
    pub arguments: Vec<String>,
    /// Manifests.
    pub manifests: String,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command, for messages.
    pub command: String,
    /// Its exit status.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// The output of a command that has to succeed.
    ///
    /// # Panics
    /// When it failed.
    #[must_use]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// The standard error of a command that has to fail.
    ///
    /// # Panics
    /// When it succeeded.
    #[must_use]
    pub fn failure(self) -> String {
        assert_ne!(self.code, 0, "{self}");
        self.stderr
    }

    /// The output of a command that has to succeed, as JSON.
    ///
    /// # Panics
    /// When it failed or said no JSON.
    #[must_use]
    pub fn json(self) -> Value {
        let text = self.clone().success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} ended with {}\nstdout: {}\nstderr: {}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    name: String,
    process: Child,
    rootless: bool,
}

impl Lab {
    /// Starts a lab and waits until its manifests are in force.
    ///
    /// # Panics
    /// When it does not come up, with what it said.
    #[must_use]
    pub fn start(options: &Options) -> Self {
        match Self::try_start(options) {
            Ok(lab) => lab,
            Err(said) => panic!("the lab did not come up:\n{said}"),
        }
    }

    /// The same, for labs that may not come up.
    ///
    /// # Errors
    /// What it said.
    ///
    /// # Panics
    /// When the programs are not built.
    pub fn try_start(options: &Options) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        Self::try_start_named(&name, options)
    }

    /// The same, with a name.
    ///
    /// # Errors
    /// What it said.
    ///
    /// # Panics
    /// When the programs are not built.
    pub fn try_start_named(name: &str, options: &Options) -> Result<Self, String> {
        check_programs(options.mesh);
        let mut command = Command::new(program("lab"));
        command
            .args(["up", "--name", name])
            .args(&options.arguments);
        if !options.joined {
            command.args(["-f", "-"]);
        }
        if !options.mesh && !options.joined {
            command.arg("--no-mesh");
        }
        if options.rootless {
            command.env("AMBIT_LAB_ROOTLESS", "1");
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        sys::die_with_parent(&mut command, Signal::SIGTERM);
        let mut process = spawn(command).map_err(|error| error.to_string())?;
        let mut stdin = process.stdin.take().expect("standard input is piped");
        // A command that ends before it reads says why.
        let _ = stdin.write_all(options.manifests.as_bytes());
        drop(stdin);
        let stdout = process.stdout.take().expect("standard output is piped");
        let mut stderr = process.stderr.take().expect("standard error is piped");
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut lab = Self {
            name: name.to_owned(),
            process,
            rootless: options.rootless,
        };
        let mut said = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.unwrap_or_default();
            if line == UP {
                return Ok(lab);
            }
            said.push_str(&line);
            said.push('\n');
        }
        let _ = lab.process.wait();
        said.push_str(&complaints.join().unwrap_or_default());
        Err(said)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process number of its foreground command.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it is in a user namespace for the sake of the test.
    #[must_use]
    pub fn rootless(&self) -> bool {
        self.rootless
    }

    /// Runs `lab` with `arguments`.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Ran {
        self.run_with_input(arguments, "")
    }

    /// Runs `lab` with `arguments` and `input` on its standard input.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn run_with_input<I, S>(&self, arguments: I, input: &str) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(program("lab"));
        command.args(["--name", &self.name]).args(arguments);
        run(command, input)
    }

    /// Puts manifests in force.
    ///
    /// # Panics
    /// When they are not.
    pub fn apply(&self, manifests: &str) {
        let _ = self.try_apply(manifests).success();
    }

    /// Tries to put manifests in force.
    #[must_use]
    pub fn try_apply(&self, manifests: &str) -> Ran {
        self.run_with_input(["apply", "-f", "-"], manifests)
    }

    /// Removes what manifests name.
    ///
    /// # Panics
    /// When they are not removed.
    pub fn delete(&self, manifests: &str) {
        let _ = self
            .run_with_input(["delete", "-f", "-"], manifests)
            .success();
    }

    /// Runs a command: `target` is `NAMESPACE/POD`, `NAMESPACE/deploy/NAME`, `node/NAME` or `machine/NAME`.
    #[must_use]
    pub fn exec(&self, target: &str, argv: &[&str]) -> Ran {
        let (namespace, target) = split(target);
        let mut arguments = vec!["exec", "-n", namespace, target, "--"];
        arguments.extend(argv);
        self.run(arguments)
    }

    /// The other ends of the established connections at the HBONE port of a pod, as the kernel writes them (proc_net_tcp
    /// in its documentation).
    ///
    /// # Panics
    /// When there is no such pod.
    #[must_use]
    pub fn hbone_peers(&self, target: &str) -> BTreeSet<String> {
        let tables = ["cat", "/proc/self/net/tcp", "/proc/self/net/tcp6"];
        let tables = self.exec(target, &tables).success();
        let rows = tables.lines().map(|row| row.split_whitespace());
        let rows = rows.map(Iterator::collect::<Vec<_>>);
        // A table is read in parts: a connection may be told twice when another one comes meanwhile.
        rows.filter(|row| row.len() > 3 && row[1].ends_with(":3AA0") && row[3] == "01")
            .map(|row| row[2].to_owned())
            .collect()
    }

    /// What the sample client `load` says in a pod.
    #[must_use]
    pub fn load(&self, target: &str, arguments: &[&str]) -> Ran {
        let load = program("load").to_string_lossy().into_owned();
        let argv: Vec<&str> = std::iter::once(&*load)
            .chain(arguments.iter().copied())
            .collect();
        self.exec(target, &argv)
    }

    /// What an `echo` server answers a GET request from `target`.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn get(&self, target: &str, url: &str) -> Value {
        self.load(target, &["get", "--fail", url]).json()
    }

    /// One object: `kind NAMESPACE/NAME`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn object(&self, kind: &str, name: &str) -> Value {
        let (namespace, name) = split(name);
        self.run(["get", kind, name, "-n", namespace, "-o", "json"])
            .json()
    }

    /// The objects of a kind in a namespace.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[must_use]
    pub fn objects(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let list = self
            .run(["get", kind, "-n", namespace, "-o", "json"])
            .json();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// What something logged: `control`, `ztunnel/NODE`, `NAMESPACE/POD`.
    ///
    /// # Panics
    /// When there is no such log.
    #[must_use]
    pub fn logs(&self, target: &str) -> String {
        let component = ["control", "lab"].contains(&target)
            || target.starts_with("ztunnel/")
            || target.starts_with("agent/")
            || target.starts_with("echo/");
        let (namespace, target) = if component {
            ("default", target)
        } else {
            split(target)
        };
        self.run(["logs", "-n", namespace, target]).success()
    }

    /// Ends the lab as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end.
    pub fn interrupt(mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        kill(pid, Signal::SIGINT).expect("the lab's command runs");
        let status = self
            .process
            .wait()
            .expect("the lab's command is a child of this process");
        assert!(status.success(), "lab up ended with {status}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let pid = Pid::from_raw(self.process.id().cast_signed());
            let _ = kill(pid, Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

fn split(target: &str) -> (&str, &str) {
    if target.starts_with("node/") || target.starts_with("machine/") {
        return ("default", target);
    }
    target.split_once('/').unwrap_or(("default", target))
}

/// Says when it is dropped that others are to end: also when the work before panics.
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until `check` gives something, asking again and again.
///
/// # Panics
/// When it does not within `patience`; `what` says what was waited for.
pub fn eventually<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    eventually_ok(what, patience, || check().ok_or(""))
}

/// The same, for a check that can say what is still wrong.
///
/// # Panics
/// With what is wrong at the end.
pub fn eventually_ok<T, E: std::fmt::Display>(
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        let wrong = match check() {
            Ok(found) => return found,
            Err(wrong) => wrong,
        };
        assert!(
            Instant::now() < deadline,
            "{what}: not within {patience:?}\n{wrong}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command with `input` on its standard input.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn run(mut command: Command, input: &str) -> Ran {
    let shown = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A command may end without reading everything.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let _ = writer.join();
    Ran {
        command: shown,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program of this workspace.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    folder().join(name)
}

/// Where the workspace's programs are: tests run in a folder below it.
fn folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("/"));
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder).to_owned(),
        _ => folder.to_owned(),
    }
}

fn check_programs(mesh: bool) {
    let plain = ["lab", "echo", "load"];
    let all = plain.into_iter().chain(
        ["ambit", "ambit-cni", "ztunnel", "waypoint"]
            .into_iter()
            .filter(|_| mesh),
    );
    let missing: Vec<&str> = all.filter(|name| !program(name).is_file()).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} not found in {}: run `cargo build --workspace --bins` first",
        folder().display()
    );
}

type Starting = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a process from a thread that never ends: a child may be tied to the thread that starts it,
/// and tests share labs across threads.
fn spawn(command: Command) -> std::io::Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Starting>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Starting>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (sender, receiver) = mpsc::channel();
    starter
        .send((command, sender))
        .map_err(std::io::Error::other)?;
    receiver.recv().map_err(std::io::Error::other)?
}
