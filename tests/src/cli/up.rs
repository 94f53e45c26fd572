//! Starts a lab.

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::{Up, client, complain, line, manifests};
use crate::apiserver;
use crate::cluster::{Settings, ZtunnelChoice, node_name};
use crate::daemon::READY;
use crate::kubelet::Images;
use crate::net::plan;
use crate::protocol::Request;
use crate::stage::SELF;
use crate::state::StateDir;

/// How long the lab may take to end before it is killed.
const END: Duration = Duration::from_secs(15);

/// Starts a lab and, without `--detach`, stays until it is told to end.
pub(super) fn up(state: &StateDir, options: Up) -> anyhow::Result<ExitCode> {
    let mut settings = settings(&options)?;
    let manifests = manifests::read(&options.files)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let Some(kubeconfig) = &options.kube {
            let egress = options.egress.as_deref();
            settings.kube = Some(apiserver::Settings::read(kubeconfig, egress).await?);
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut monitor = start(state, &settings, options.detach).await?;
        let up = Cell::new(false);
        let work = async {
            if !manifests.is_empty() {
                let (state, seconds) = (state.clone(), options.patience.timeout);
                let request = Request::Apply { manifests, seconds };
                let asking = tokio::task::spawn_blocking(move || client::ask(&state, &request));
                let answer = asking.await??;
                if answer.code != 0 {
                    bail!("{}", answer.problems.join("\n"));
                }
            }
            line(&format!("lab {} is up", state.name()));
            up.set(true);
            if options.detach {
                return Ok(ExitCode::SUCCESS);
            }
            line("Ctrl-C ends it");
            std::future::pending().await
        };
        let result = tokio::select! {
            result = work => result,
            _ = interrupt.recv() => stopped(up.get()),
            _ = terminate.recv() => stopped(up.get()),
            status = monitor.wait() => {
                let success = status?.success() && up.get();
                return Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
        };
        if !(options.detach && up.get()) {
            end(&mut monitor).await?;
        }
        result
    })
}

/// What an interrupt means: the end of a lab that was up, or that there never was one.
fn stopped(up: bool) -> anyhow::Result<ExitCode> {
    match up {
        true => Ok(ExitCode::SUCCESS),
        false => bail!("interrupted before the lab was up; nothing of it is left"),
    }
}

/// Starts the monitor and waits until the daemon answers commands.
async fn start(state: &StateDir, settings: &Settings, detach: bool) -> anyhow::Result<Child> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(SELF);
    command
        .arg("__monitor")
        .arg(state.root())
        .arg(if detach { "loose" } else { "tied" })
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut monitor = command.spawn().context("cannot start the lab")?;
    drop(command);
    if let Some(mut stdin) = monitor.stdin.take() {
        match stdin.write_all(&serde_json::to_vec(settings)?).await {
            // It ended before it read: it says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    let reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(text) = lines.next_line().await? {
        if text == READY {
            return Ok(monitor);
        }
        complain(&text);
    }
    monitor.wait().await?;
    bail!("the lab did not start")
}

async fn end(monitor: &mut Child) -> anyhow::Result<()> {
    let Some(pid) = monitor.id() else {
        return Ok(());
    };
    let pid = Pid::from_raw(pid.cast_signed());
    // It may end by itself in this moment.
    let _ = kill(pid, Signal::SIGTERM);
    if timeout(END, monitor.wait()).await.is_err() {
        let _ = kill(pid, Signal::SIGKILL);
        monitor.wait().await?;
    }
    Ok(())
}

fn settings(options: &Up) -> anyhow::Result<Settings> {
    let own = std::env::current_exe().context("cannot find the lab's own program")?;
    let programs = own.parent().unwrap_or(Path::new("/")).to_owned();
    let mut images = Images::samples(&programs);
    for rule in options.images.iter().rev() {
        images
            .add(rule)
            .map_err(|error| anyhow::anyhow!("--image {error}"))?;
    }
    let ztunnels: Vec<ZtunnelChoice> = options
        .ztunnels
        .iter()
        .map(|choice| ztunnel(choice, options.nodes))
        .collect::<anyhow::Result<_>>()?;
    let networks = options.networks.iter().map(|it| network(it, options.nodes));
    let networks = networks.collect::<anyhow::Result<_>>()?;
    let mesh = !options.no_mesh && options.kube.is_none();
    if mesh {
        let everywhere = ztunnels.iter().any(|choice| choice.node.is_none());
        let own = ["ambit", "ambit-cni", "ztunnel"].into_iter();
        for program in own.filter(|program| !(everywhere && *program == "ztunnel")) {
            let path = programs.join(program);
            if !path.is_file() {
                bail!(
                    "{}: not there; build it with `cargo build --workspace --bins`",
                    path.display()
                );
            }
        }
    }
    let pair = |text: &String| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let env = options.ztunnel_env.iter().map(|text| {
        pair(text).with_context(|| format!("--ztunnel-env {text:?}: write NAME=VALUE"))
    });
    let mut control_args = options.control_args.clone();
    if let Some(lifetime) = &options.certificate_lifetime {
        control_args.extend(["--certificate-lifetime".to_owned(), lifetime.clone()]);
    }
    let machines = machines(options)?;
    Ok(Settings {
        nodes: options.nodes,
        machines,
        networks,
        images,
        ztunnels,
        ztunnel_env: env.collect::<anyhow::Result<_>>()?,
        trust_domain: options.trust_domain.clone(),
        control_args,
        programs,
        mesh,
        kube: None,
    })
}

fn machines(options: &Up) -> anyhow::Result<Vec<String>> {
    let names = &options.machines;
    if names.len() > usize::from(plan::MOST_MACHINES) {
        bail!("--machine: at most {} of them", plan::MOST_MACHINES);
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    for (at, name) in names.iter().enumerate() {
        let is_node = (1..=options.nodes).any(|number| node_name(number) == *name);
        if name.is_empty() || name.len() > 63 || !name.bytes().all(fits) {
            bail!("--machine {name:?}: a name is of a-z, 0-9 and '-', 63 at most");
        }
        if is_node || names[..at].contains(name) {
            bail!("--machine {name:?}: there are two of that name");
        }
    }
    Ok(names.clone())
}

fn network(choice: &str, nodes: u8) -> anyhow::Result<(String, String)> {
    let pair = choice.split_once('=').filter(|(_, name)| !name.is_empty());
    let (node, name) = pair.with_context(|| format!("--network {choice:?}: write NODE=NAME"))?;
    if !(1..=nodes).any(|number| node_name(number) == node) {
        bail!("--network {choice:?}: the lab has no node {node:?}");
    }
    Ok((node.to_owned(), name.to_owned()))
}

fn ztunnel(choice: &str, nodes: u8) -> anyhow::Result<ZtunnelChoice> {
    let (node, program) = match choice.split_once('=') {
        Some((node, program)) => (Some(node.to_owned()), program),
        None => (None, choice),
    };
    if let Some(node) = &node
        && !(1..=nodes).any(|number| node_name(number) == *node)
    {
        bail!("--ztunnel {choice:?}: the lab has no node {node:?}");
    }
    let program = PathBuf::from(program);
    let program = program
        .canonicalize()
        .with_context(|| format!("--ztunnel {choice:?}"))?;
    Ok(ZtunnelChoice { node, program })
}
