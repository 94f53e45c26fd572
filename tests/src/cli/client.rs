//! Commands that ask a running lab.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Output, complain, line, manifests, table};
use crate::mesh::Joining;
use crate::net::weather::Weather;
use crate::protocol::{self, Reply, Request, Status};
use crate::state::StateDir;

/// How long a lab may take to end.
const END: Duration = Duration::from_secs(20);

/// What comes back beside lines for the person.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) objects: Vec<Value>,
    pub(super) file: Option<PathBuf>,
    pub(super) status: Option<Status>,
    pub(super) problems: Vec<String>,
}

impl Answer {
    fn exit(self) -> ExitCode {
        for problem in &self.problems {
            complain(&format!("lab: {problem}"));
        }
        ExitCode::from(u8::try_from(self.code & 0xff).unwrap_or(1))
    }
}

/// Sends a request and collects the answer; lines are printed as they come.
pub(super) fn ask(state: &StateDir, request: &Request) -> anyhow::Result<Answer> {
    let mut stream = connect(state)?;
    let standard = [
        std::io::stdin().as_raw_fd(),
        std::io::stdout().as_raw_fd(),
        std::io::stderr().as_raw_fd(),
    ];
    let exec = matches!(request, Request::Exec { .. });
    protocol::send(&stream, request, if exec { &standard } else { &[] })?;
    let mut answer = Answer::default();
    loop {
        let Some((reply, _)) = protocol::receive::<Reply>(&mut stream)? else {
            bail!("the lab ended before it answered");
        };
        match reply {
            Reply::Line(text) => line(&text),
            Reply::Objects(objects) => answer.objects = objects,
            Reply::File(file) => answer.file = Some(file),
            Reply::Status(status) => answer.status = Some(status),
            Reply::Done(code) => {
                answer.code = code;
                return Ok(answer);
            }
            Reply::Failed(problems) => {
                answer.code = 1;
                answer.problems = problems;
                return Ok(answer);
            }
        }
        if matches!(
            request,
            Request::Get { .. } | Request::LogFile { .. } | Request::Status
        ) {
            return Ok(answer);
        }
    }
}

fn connect(state: &StateDir) -> anyhow::Result<UnixStream> {
    UnixStream::connect(state.control_socket()).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            let others = StateDir::all();
            let hint = if others.is_empty() {
                "start one with `lab up`".to_owned()
            } else {
                format!("these are: {}", others.join(", "))
            };
            anyhow::anyhow!("no lab called {:?} is up; {hint}", state.name())
        }
        _ => anyhow::Error::new(error).context("cannot reach the lab"),
    })
}

pub(super) fn apply(state: &StateDir, files: &[PathBuf], seconds: u64) -> anyhow::Result<ExitCode> {
    let manifests = manifests::read(files)?;
    Ok(ask(state, &Request::Apply { manifests, seconds })?.exit())
}

pub(super) fn delete(
    state: &StateDir,
    files: &[PathBuf],
    object: Option<(String, String, String)>,
    seconds: u64,
) -> anyhow::Result<ExitCode> {
    let manifests = manifests::read(files)?;
    Ok(ask(
        state,
        &Request::Delete {
            manifests,
            object,
            seconds,
        },
    )?
    .exit())
}

pub(super) fn get(
    state: &StateDir,
    kind: &str,
    name: Option<String>,
    namespace: Option<String>,
    output: Option<Output>,
) -> anyhow::Result<ExitCode> {
    let one = name.is_some();
    let every = namespace.is_none();
    let answer = ask(
        state,
        &Request::Get {
            kind: kind.to_owned(),
            name,
            namespace,
        },
    )?;
    if answer.code != 0 {
        return Ok(answer.exit());
    }
    match output {
        Some(Output::Json) => {
            let value = match (one, answer.objects) {
                (true, mut objects) => objects.pop().unwrap_or_default(),
                (false, objects) => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            };
            line(&serde_json::to_string_pretty(&value)?);
        }
        Some(Output::Name) => {
            for object in &answer.objects {
                let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
                line(&format!(
                    "{kind}/{}",
                    object["metadata"]["name"].as_str().unwrap_or_default()
                ));
            }
        }
        None => std::io::stdout().write_all(table::render(&answer.objects, every).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn exec(
    state: &StateDir,
    target: String,
    namespace: String,
    container: Option<String>,
    argv: Vec<String>,
) -> anyhow::Result<ExitCode> {
    let passed = ["TERM", "RUST_LOG", "RUST_BACKTRACE"];
    let env: BTreeMap<String, String> = passed
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    Ok(ask(
        state,
        &Request::Exec {
            target,
            namespace,
            container,
            argv,
            env,
        },
    )?
    .exit())
}

pub(super) fn kill(
    state: &StateDir,
    target: String,
    namespace: String,
) -> anyhow::Result<ExitCode> {
    Ok(ask(state, &Request::Kill { target, namespace })?.exit())
}

pub(super) fn restart(
    state: &StateDir,
    target: String,
    namespace: String,
    seconds: u64,
) -> anyhow::Result<ExitCode> {
    Ok(ask(
        state,
        &Request::Restart {
            target,
            namespace,
            seconds,
        },
    )?
    .exit())
}

pub(super) fn replace(
    state: &StateDir,
    target: String,
    env: &[String],
) -> anyhow::Result<ExitCode> {
    let env = variables(env)?;
    Ok(ask(state, &Request::Replace { target, env })?.exit())
}

fn variables(env: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pairs = env.iter().map(|text| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--env {text:?}: write NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

pub(super) fn join(
    state: &StateDir,
    machine: String,
    entry: &str,
    token_seconds: i64,
    env: &[String],
    wait: bool,
) -> anyhow::Result<ExitCode> {
    let parts = entry.split_once('/');
    let (namespace, entry) = parts.with_context(|| format!("{entry:?}: write NAMESPACE/NAME"))?;
    let joining = Joining {
        namespace: namespace.to_owned(),
        entry: entry.to_owned(),
        token_seconds,
        env: variables(env)?,
        wait,
    };
    Ok(ask(state, &Request::Join { machine, joining })?.exit())
}

pub(super) fn leave(state: &StateDir, machine: String) -> anyhow::Result<ExitCode> {
    Ok(ask(state, &Request::Leave { machine })?.exit())
}

pub(super) fn network(
    state: &StateDir,
    target: String,
    weather: Weather,
) -> anyhow::Result<ExitCode> {
    Ok(ask(state, &Request::Network { target, weather })?.exit())
}

pub(super) fn status(state: &StateDir, output: Option<Output>) -> anyhow::Result<ExitCode> {
    let answer = ask(state, &Request::Status)?;
    let status = answer.status.context("the lab did not say how it is")?;
    if output == Some(Output::Json) {
        line(&serde_json::to_string_pretty(&status)?);
    } else {
        std::io::stdout().write_all(table::render_status(&status).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn down(state: &StateDir) -> anyhow::Result<ExitCode> {
    let answer = ask(state, &Request::Down)?;
    let deadline = Instant::now() + END;
    while state.root().exists() {
        if Instant::now() > deadline {
            bail!(
                "the lab did not end within {END:?}; see {}",
                state.logs().display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(answer.exit())
}
