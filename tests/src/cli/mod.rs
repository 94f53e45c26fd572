//! The `lab` command.

mod client;
mod logs;
mod manifests;
mod table;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ambit_core::trust_domain::DEFAULT_TRUST_DOMAIN;
use clap::{Args, Parser, Subcommand};

use crate::net::weather::Weather;
use crate::programs::units::parse_duration;
use crate::state::StateDir;

/// A tiny Kubernetes cluster with the mesh in it, in network namespaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "lab", version, about)]
struct Cli {
    /// Which lab; several run side by side.
    #[arg(long, global = true, env = "LAB_NAME", default_value = "lab")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a lab; without --detach it runs until Ctrl-C.
    Up(Up),
    /// Put manifests in force and wait until they are.
    Apply {
        /// Files or folders of YAML or JSON; `-` is standard input.
        #[arg(short = 'f', long = "filename", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        patience: Patience,
    },
    /// Remove objects, by manifest or by kind and name, and wait until their pods are gone.
    Delete {
        /// Files or folders of YAML or JSON; `-` is standard input.
        #[arg(short = 'f', long = "filename")]
        files: Vec<PathBuf>,
        /// A kind, as in `lab delete pod NAME`.
        #[arg(requires = "object", required_unless_present = "files")]
        kind: Option<String>,
        /// A name.
        object: Option<String>,
        #[command(flatten)]
        namespace: Namespace,
        #[command(flatten)]
        patience: Patience,
    },
    /// Show objects.
    Get {
        /// A kind: `pods`, `deploy`, `svc`, `httproutes`, ...
        kind: String,
        /// One object.
        object: Option<String>,
        #[command(flatten)]
        namespace: Namespace,
        /// Of all namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// `json` for whole objects, `name` for names.
        #[arg(short = 'o', long)]
        output: Option<Output>,
    },
    /// Run a command in a pod, on a node or on a machine; the exit status is the command's.
    Exec {
        /// `POD`, `deploy/NAME`, `sts/NAME`, `node/NAME` or `machine/NAME`.
        target: String,
        #[command(flatten)]
        namespace: Namespace,
        /// The container; the first when absent.
        #[arg(short = 'c', long)]
        container: Option<String>,
        /// The command.
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Show what something logged.
    Logs {
        /// `ztunnel/NODE`, `agent/NODE`, `waypoint/NAME`, `ztunnel/MACHINE`, `echo/MACHINE`, `control`, `lab`, `POD` or `deploy/NAME`.
        target: String,
        #[command(flatten)]
        namespace: Namespace,
        /// The container; the first when absent.
        #[arg(short = 'c', long)]
        container: Option<String>,
        /// Go on as it logs.
        #[arg(short = 'f', long)]
        follow: bool,
    },
    /// End something at once; it is started again as its restart policy says. A node of a lab that is joined to an API
    /// server loses its power.
    Kill {
        /// `ztunnel/NODE`, `agent/NODE`, `control`, `POD`, `deploy/NAME` or `node/NAME`.
        target: String,
        #[command(flatten)]
        namespace: Namespace,
    },
    /// End something in order, start it again and wait until it is ready. A node boots, if need be after its power is cut.
    Restart {
        /// `ztunnel/NODE`, `agent/NODE`, `control`, `POD`, `deploy/NAME` or `node/NAME`.
        target: String,
        #[command(flatten)]
        namespace: Namespace,
        #[command(flatten)]
        patience: Patience,
    },
    /// Start a part of the mesh anew, with other variables if there are any, as a rollout does: the successor of a node proxy serves
    /// before it ends. With the names of the trust domain in control's, waypoints are told them as well.
    Replace {
        /// `control` or `ztunnel/NODE`.
        target: String,
        /// A variable besides those it has.
        #[arg(long = "env", value_name = "NAME=VALUE")]
        env: Vec<String>,
    },
    /// Let a machine join the mesh as the workload of a WorkloadEntry: its node proxy starts, with a token of the entry's service
    /// account, and captures its traffic. Again, it starts anew.
    Join {
        /// A name of `lab up --machine`.
        machine: String,
        /// The WorkloadEntry, as `NAMESPACE/NAME`.
        entry: String,
        /// For how many seconds the token is good; of one that has expired, fewer than none.
        #[arg(
            long,
            value_name = "SECONDS",
            default_value_t = 3600,
            allow_negative_numbers = true
        )]
        token_lifetime: i64,
        /// A variable of its node proxy.
        #[arg(long = "env", value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// Return at once, and not when it is ready.
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a machine leave the mesh: its node proxy ends in order and does not start again.
    Leave {
        /// A name of `lab up --machine`.
        machine: String,
    },
    /// Make what a node sends and receives late, or lose some of it; without either the network is as it was.
    Network {
        /// `node/NAME`.
        target: String,
        /// How late it is, one way, as `20ms`; at most 10 s.
        #[arg(long, value_name = "DURATION", value_parser = delay, default_value = "0ms")]
        delay: Duration,
        /// How much of it is lost, in percent: 100 cuts the node off.
        #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "0")]
        loss: f64,
    },
    /// Show how the lab is.
    Status {
        /// As JSON.
        #[arg(short = 'o', long)]
        output: Option<Output>,
    },
    /// End a lab and everything in it.
    Down,
    /// A guided run with a lab of its own: mutual TLS between two nodes, and a policy at work.
    Demo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Json,
    Name,
}

#[derive(Debug, Args)]
struct Namespace {
    /// The namespace.
    #[arg(short = 'n', long, default_value = "default")]
    namespace: String,
}

#[derive(Debug, Args)]
struct Patience {
    /// How many seconds it may take.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct Up {
    /// Files or folders of YAML or JSON to apply; `-` is standard input.
    #[arg(short = 'f', long = "filename")]
    files: Vec<PathBuf>,
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: u8,
    /// Which network a node and its pods are on (label `topology.istio.io/network`): they have no route to pods of another network,
    /// but to its gateways (Gateways of class `ambit-east-west` or `istio-east-west`). Nodes without one share a network that has no name
    #[arg(long = "network", value_name = "NODE=NAME")]
    networks: Vec<String>,
    /// A machine beside the nodes, with nothing of Kubernetes: the first at 172.30.0.201 and fd00:172:30::c9. It serves port 8080 and,
    /// in place of ssh, port 22 (`echo`), and may join the mesh with `lab join`. With --kube nothing runs on it but what `lab exec` starts
    #[arg(long = "machine", value_name = "NAME", conflicts_with = "no_mesh")]
    machines: Vec<String>,
    /// What runs for images of this pattern, as `PATTERN=COMMAND`; `*` stands for anything. A COMMAND `FOLDER/` is where
    /// the image's root is on this machine.
    #[arg(long = "image", value_name = "PATTERN=COMMAND")]
    images: Vec<String>,
    /// Another node proxy that speaks ZDS, on every node or one.
    #[arg(long = "ztunnel", value_name = "[NODE=]BIN")]
    ztunnels: Vec<String>,
    /// A variable for every node proxy.
    #[arg(long = "ztunnel-env", value_name = "NAME=VALUE")]
    ztunnel_env: Vec<String>,
    /// The mesh's trust domain.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: String,
    /// How long workload certificates live, as `10s`, `5m` or `24h`.
    #[arg(long, value_name = "DURATION")]
    certificate_lifetime: Option<String>,
    /// One more argument for `ambit control`.
    #[arg(long = "control-arg", value_name = "ARG", allow_hyphen_values = true)]
    control_args: Vec<String>,
    /// Join the API server of this kubeconfig: the lab's nodes register there and run what is bound to them. Objects
    /// are applied with kubectl; controllers, scheduler and the mesh are the cluster's.
    #[arg(long, value_name = "KUBECONFIG", conflicts_with_all = ["files", "ztunnels", "control_args", "certificate_lifetime"])]
    kube: Option<PathBuf>,
    /// Where that API server's egress selector has its socket for the cluster (HTTPConnect). By it the API server reaches
    /// kubelets and pods: kubectl logs, ambit ztunnel, ambit top.
    #[arg(long, value_name = "SOCKET", requires = "kube")]
    egress: Option<PathBuf>,
    /// Without the mesh: pods, services and DNS alone.
    #[arg(long)]
    no_mesh: bool,
    /// Return when the lab is ready; `lab down` ends it.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = StateDir::named(&cli.name)
        .map_err(anyhow::Error::from)
        .and_then(|state| run(&state, cli.command));
    result.unwrap_or_else(|error| {
        complain(&format!("lab: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run(state: &StateDir, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(options) => up::up(state, options),
        Command::Apply { files, patience } => client::apply(state, &files, patience.timeout),
        Command::Delete {
            files,
            kind,
            object,
            namespace,
            patience,
        } => {
            let object = kind
                .zip(object)
                .map(|(kind, name)| (kind, namespace.namespace, name));
            client::delete(state, &files, object, patience.timeout)
        }
        Command::Get {
            kind,
            object,
            namespace,
            all_namespaces,
            output,
        } => {
            let namespace = (!all_namespaces).then_some(namespace.namespace);
            client::get(state, &kind, object, namespace, output)
        }
        Command::Exec {
            target,
            namespace,
            container,
            argv,
        } => client::exec(state, target, namespace.namespace, container, argv),
        Command::Logs {
            target,
            namespace,
            container,
            follow,
        } => logs::logs(state, target, namespace.namespace, container, follow),
        Command::Kill { target, namespace } => client::kill(state, target, namespace.namespace),
        Command::Restart {
            target,
            namespace,
            patience,
        } => client::restart(state, target, namespace.namespace, patience.timeout),
        Command::Replace { target, env } => client::replace(state, target, &env),
        Command::Join {
            machine,
            entry,
            token_lifetime,
            env,
            no_wait,
        } => client::join(state, machine, &entry, token_lifetime, &env, !no_wait),
        Command::Leave { machine } => client::leave(state, machine),
        Command::Network {
            target,
            delay,
            loss,
        } => {
            let loss = loss / 100.0;
            client::network(state, target, Weather { delay, loss })
        }
        Command::Status { output } => client::status(state, output),
        Command::Down => client::down(state),
        Command::Demo => Ok(crate::demo::demo()),
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text).map_err(|error| error.to_string())?;
    match delay <= Duration::from_secs(10) {
        true => Ok(delay),
        false => Err(format!("{text} is longer than 10s")),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let percent = number.parse().ok().filter(|it| (0.0..=100.0).contains(it));
    percent.ok_or_else(|| format!("{text:?} is no number from 0 to 100"))
}

/// Prints a line on standard output.
pub fn line(text: &str) {
    use std::io::Write;
    // A reader that went away has read enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line on standard error.
pub fn complain(text: &str) {
    use std::io::Write;
    // Standard error is the last place to complain in: nothing is left when it is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
