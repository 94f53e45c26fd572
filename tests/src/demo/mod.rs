//! `lab demo`: a guided run. Two nodes, a labelled namespace, unmodified programs; what crosses the wire,
//! who talked to whom, and a policy that denies and then allows; then a waypoint. What it prints was observed: its
//! exit status says whether all of it was as promised.

mod manifests;
mod waypoint;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::capture::Tap;
use crate::cli::{complain, line};
use crate::harness::{Lab, Options, Ran};
use crate::state::StateDir;
use manifests::{BACKEND, FRONTEND, NAMESPACE, STRANGER};

/// What nobody on the wire may read.
const SECRET: &str = "the launch code is 0000";
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the demonstration.
#[must_use]
pub fn demo() -> ExitCode {
    let began = Instant::now();
    match run() {
        Ok(()) => {
            line(&format!(
                "\nAll as promised, in {:.1} seconds.",
                began.elapsed().as_secs_f32()
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("\nlab demo: NOT as promised: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    heading(
        "Two nodes, each with a proxy; the namespace `shop` is labelled istio.io/dataplane-mode=ambient",
    );
    let options = Options {
        mesh: true,
        manifests: manifests::shop(),
        arguments: vec!["--ztunnel-env".to_owned(), "LOG_FORMAT=json".to_owned()],
        ..Options::default()
    };
    let name = format!("demo-{}", std::process::id());
    let lab = Lab::try_start_named(&name, &options).map_err(anyhow::Error::msg)?;
    line(
        lab.run(["get", "pods", "-n", NAMESPACE])
            .success()
            .trim_end(),
    );

    heading(
        "A request from node-1 to node-2 with a secret in it, by programs that know nothing of the mesh",
    );
    let tap = Tap::start(&lab, "node/node-1")?;
    let answer = request(&lab, FRONTEND)?;
    let frames = tap.stop()?;
    line(&format!(
        "   frontend -> http://backend/ : answered by {}",
        answer["hostname"]
    ));
    line(&format!(
        "   the backend saw the caller   {}",
        answer["remote_address"]
    ));

    heading("What the wire between the nodes showed");
    wire::report(&frames, SECRET)?;

    heading("Who talked to whom, as the proxies logged it");
    identities(&lab)?;

    heading("A policy: only the service account `nobody` may call the backend");
    lab_apply(&lab, &manifests::only("nobody"))?;
    refused(&lab, FRONTEND)?;
    denial(&lab)?;

    heading("The policy now names the frontend");
    lab_apply(&lab, &manifests::only(FRONTEND))?;
    let answer = request(&lab, FRONTEND)?;
    line(&format!(
        "   frontend -> backend : allowed, answered by {}",
        answer["hostname"]
    ));
    refused(&lab, STRANGER)?;

    waypoint::show(&lab)?;

    heading("Cleaning up");
    let folder = StateDir::named(&name)?.root().to_owned();
    succeed(lab.run(["down"]))?;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    line("   the lab is gone: namespaces, processes and files");
    Ok(())
}

fn heading(text: &str) {
    line(&format!("\n== {text}"));
}

fn succeed(ran: Ran) -> anyhow::Result<String> {
    if ran.code != 0 {
        bail!("{ran}");
    }
    Ok(ran.stdout)
}

fn lab_apply(lab: &Lab, manifests: &str) -> anyhow::Result<()> {
    succeed(lab.try_apply(manifests)).map(drop)
}

/// A request with the secret, from the pod `client` to the backend.
fn call(lab: &Lab, client: &str) -> Ran {
    let arguments = [
        "get",
        "--fail",
        "--timeout",
        "5s",
        "--data",
        SECRET,
        "http://backend/",
    ];
    lab.load(&format!("{NAMESPACE}/{client}"), &arguments)
}

fn request(lab: &Lab, client: &str) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_str(&succeed(call(lab, client))?)?;
    ensure!(
        answer["body"]["text"] == SECRET,
        "the backend did not get the secret: {answer}"
    );
    Ok(answer)
}

fn refused(lab: &Lab, client: &str) -> anyhow::Result<()> {
    let ran = call(lab, client);
    ensure!(
        ran.code != 0,
        "{client} reached the backend although the policy forbids it"
    );
    line(&format!(
        "   {client} -> backend : refused ({})",
        ran.stderr.lines().next().unwrap_or_default()
    ));
    Ok(())
}

/// The access log lines of the backend's proxy, newest last.
fn access_log(lab: &Lab) -> Vec<Value> {
    let log = lab.logs("ztunnel/node-2");
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["scope"] == "access" && line["direction"] == "inbound")
        .collect()
}

fn await_line(lab: &Lab, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = access_log(lab).into_iter().rev().find(&wanted) {
            return Ok(found);
        }
        ensure!(
            Instant::now() < deadline,
            "the proxy of node-2 logged no {what}"
        );
        std::thread::sleep(PAUSE);
    }
}

fn identities(lab: &Lab) -> anyhow::Result<()> {
    let seen = await_line(lab, "connection of the frontend", |line| {
        line["error"].is_null() && line["src.workload"] == FRONTEND
    })?;
    let text = |name: &str| {
        seen[name]
            .as_str()
            .with_context(|| format!("no {name} in {seen}"))
    };
    line(&format!("   {}", text("src.identity")?));
    line(&format!("   -> {}", text("dst.identity")?));
    line(&format!(
        "   {} bytes received, {} sent",
        seen["bytes_recv"], seen["bytes_sent"]
    ));
    for (name, account) in [("src.identity", FRONTEND), ("dst.identity", BACKEND)] {
        let identity = text(name)?;
        let expected = format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/{account}");
        ensure!(identity == expected, "{name} is {identity}, not {expected}");
    }
    Ok(())
}

fn denial(lab: &Lab) -> anyhow::Result<()> {
    let seen = await_line(lab, "denial", |line| {
        line["src.workload"] == FRONTEND && line["error"].is_string()
    })?;
    line(&format!(
        "   the proxy's reason: {}",
        seen["error"].as_str().unwrap_or_default()
    ));
    Ok(())
}
