//! The CNI plugin: the container runtime calls it behind the plugin that gave the pod its network.
//!
//! It asks the agent and passes the chain's result on. CNI specification 1.1.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ambit_core::cni::agent::{Command, LATER, PodName, Request};
use ambit_core::cni::{self, CniError, Environment, NetConf};
use serde_json::Value;

use super::{api, doubt};

/// Longer than the agent takes at its worst, shorter than a container runtime waits.
const PATIENCE: Duration = Duration::from_secs(50);

/// Whether this process was called as a plugin.
#[must_use]
pub fn is_called() -> bool {
    std::env::var_os("CNI_COMMAND").is_some()
}

/// Answers one call: reads the environment and standard input, writes standard output.
#[must_use]
pub fn main() -> ExitCode {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    let answer = match read {
        Ok(_) => call(|name| std::env::var(name).ok(), &text),
        Err(error) => Err(CniError::io("standard input", &error)),
    };
    let (text, code) = match answer {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.render(&text), ExitCode::FAILURE),
    };
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The answer to one call, with the environment and the standard input given.
pub(super) fn call(
    variable: impl Fn(&str) -> Option<String>,
    input: &str,
) -> Result<String, CniError> {
    let command = variable("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        return Ok(cni::versions());
    }
    let conf = NetConf::parse(input)?;
    match command.as_str() {
        "ADD" => add(&conf, variable),
        "CHECK" => check(&conf, variable).map(|()| String::new()),
        "DEL" => del(&conf, variable).map(|()| String::new()),
        "STATUS" => status(&conf).map(|()| String::new()),
        // There is nothing of ours that a pod's end leaves behind.
        "GC" => Ok(String::new()),
        other => Err(CniError::environment(format!(
            "CNI_COMMAND {other:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION"
        ))),
    }
}

fn add(conf: &NetConf, variable: impl Fn(&str) -> Option<String>) -> Result<String, CniError> {
    let result = conf.result()?;
    let environment = Environment::read(variable, true)?;
    if let Some(pod) = environment.pod.clone().filter(|pod| !conf.excludes(pod)) {
        ask(conf, request(Command::Add, environment, pod, &result)?)?;
    }
    Ok(cni::result(&conf.cni_version, result))
}

fn check(conf: &NetConf, variable: impl Fn(&str) -> Option<String>) -> Result<(), CniError> {
    let result = conf.result()?;
    let environment = Environment::read(variable, true)?;
    match environment.pod.clone().filter(|pod| !conf.excludes(pod)) {
        Some(pod) => ask(conf, request(Command::Check, environment, pod, &result)?),
        None => Ok(()),
    }
}

/// Ends well whatever is missing: a pod's end must not wait for an agent. An agent that starts later sees that the pod is
/// gone.
fn del(conf: &NetConf, variable: impl Fn(&str) -> Option<String>) -> Result<(), CniError> {
    let environment = Environment::read(variable, false)?;
    let Some(pod) = environment.pod.clone().filter(|pod| !conf.excludes(pod)) else {
        return Ok(());
    };
    match ask(conf, request(Command::Del, environment, pod, &Value::Null)?) {
        Err(error) if error.code != LATER => Err(error),
        _ => Ok(()),
    }
}

fn status(conf: &NetConf) -> Result<(), CniError> {
    match std::os::unix::net::UnixStream::connect(&conf.agent_socket) {
        Ok(_) => Ok(()),
        Err(_) if doubt::is_over(&conf.agent_socket) => Ok(()),
        Err(error) => Err(CniError::unavailable(&conf.agent_socket, &error)),
    }
}

fn request(
    command: Command,
    environment: Environment,
    pod: PodName,
    result: &Value,
) -> Result<Request, CniError> {
    Ok(Request {
        command,
        container_id: environment.container_id,
        pod,
        netns: environment.netns.map(PathBuf::from),
        ips: cni::ips(result)?,
    })
}

fn ask(conf: &NetConf, request: Request) -> Result<(), CniError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CniError::io("a runtime for one question", &error))?;
    let asked = runtime.block_on(api::ask(&conf.agent_socket, &request, PATIENCE));
    match asked {
        Err(refusal) if refusal.code == LATER && doubt::is_over(&conf.agent_socket) => Ok(()),
        asked => asked.map(drop).map_err(CniError::from),
    }
}

#[cfg(test)]
mod tests;
