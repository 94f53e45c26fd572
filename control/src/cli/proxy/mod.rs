//! `ambit ztunnel` and part of `ambit waypoint`: what a proxy knows, as a table.
//!
//! A proxy answers operators on its own loopback alone. The command reaches it there by a port that the API server
//! forwards to the pod, or from where the proxy runs.

mod choice;
mod part;
mod reach;

use std::net::SocketAddr;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::table::Form;
use choice::{Kind, Wanted};
pub use part::Part;
use reach::Asked;

const EXAMPLES: &str = "\
Examples:
  ambit ztunnel workloads ztunnel-x7k2p
  ambit ztunnel connections --node node-1
  lab exec node/node-1 -- ambit ztunnel connections

A proxy answers operators on its own loopback alone. The API server forwards a port of its pod, which needs the rights to
list pods and to get and create pods/portforward in its namespace. Without a pod, a node, a namespace or an address, what
listens at 127.0.0.1:15000 is asked, else the only node proxy there is.";

/// Flags of `ambit ztunnel`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// What to show
    #[command(subcommand)]
    pub what: What<NodeProxy>,
}

/// A part of what every proxy knows, and which proxy it is.
#[derive(Debug, Subcommand)]
pub enum What<P: Args> {
    /// Shows the pods it knows, with their waypoints.
    Workloads(P),
    /// Shows the services it knows, with their endpoints and waypoints.
    Services(P),
    /// Shows the policies it enforces.
    Policies(P),
    /// Shows the certificates it holds.
    Certificates(P),
    /// Shows the connections it carries.
    Connections(P),
    /// Shows who was denied whom most, and by what.
    Denials(P),
}

impl<P: Args> What<P> {
    /// Both.
    pub fn parts(&self) -> (Part, &P) {
        match self {
            Self::Workloads(of) => (Part::Workloads, of),
            Self::Services(of) => (Part::Services, of),
            Self::Policies(of) => (Part::Policies, of),
            Self::Certificates(of) => (Part::Certificates, of),
            Self::Connections(of) => (Part::Connections, of),
            Self::Denials(of) => (Part::Denials, of),
        }
    }
}

/// Which node proxy, and how it is shown.
#[derive(Debug, Args)]
pub struct NodeProxy {
    /// Its pod
    #[arg(conflicts_with_all = ["node", "address"])]
    pub pod: Option<String>,
    /// The proxy of this node
    #[arg(long, value_name = "NODE", conflicts_with = "address")]
    pub node: Option<String>,
    /// Its namespace [default: ambit-system]
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Which waypoint, and how it is shown.
#[derive(Debug, Args)]
pub struct Waypoint {
    /// Its name, or a pod of it
    #[arg(conflicts_with = "address")]
    pub name: Option<String>,
    /// Its namespace [default: that of kubectl's context]
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    #[command(flatten)]
    how: How,
}

/// How a proxy is asked, and how it is shown.
#[derive(Debug, Args)]
struct How {
    /// Its admin address, which is asked without the API server
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// How to show it
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    output: Form,
}

impl Flags {
    /// Asks the proxy; the text to print.
    ///
    /// # Errors
    /// None is chosen, it does not answer, or it does not know such things.
    pub async fn run(&self) -> anyhow::Result<String> {
        let (part, proxy) = self.what.parts();
        let asked = Asked {
            kind: Kind::NodeProxy,
            wanted: match (&proxy.pod, &proxy.node) {
                (Some(pod), _) => Wanted::Named(unprefixed(pod)),
                (None, Some(node)) => Wanted::OnNode(node),
                (None, None) => Wanted::Only,
            },
            namespace: proxy.namespace.as_deref(),
            address: proxy.how.address,
            part,
        };
        shown(part, proxy.how.output, asked.dump().await?)
    }
}

impl Waypoint {
    /// Asks the waypoint; the text to print.
    ///
    /// # Errors
    /// None is chosen, it does not answer, or it does not know such things.
    pub async fn show(&self, part: Part) -> anyhow::Result<String> {
        let asked = Asked {
            kind: Kind::Waypoint,
            wanted: match &self.name {
                Some(name) => Wanted::Named(unprefixed(name)),
                None => Wanted::Only,
            },
            namespace: self.namespace.as_deref(),
            address: self.how.address,
            part,
        };
        shown(part, self.how.output, asked.dump().await?)
    }
}

/// A pod's name, also as `kubectl get -o name` prints it.
fn unprefixed(name: &str) -> &str {
    name.strip_prefix("pod/").unwrap_or(name)
}

fn shown(part: Part, output: Form, mut dump: Value) -> anyhow::Result<String> {
    let (field, columns) = part.columns();
    let rows = match dump[field].take() {
        // Connections and denials are counted even where not all are listed.
        Value::Object(mut counted) => counted.remove("listed").unwrap_or_default(),
        rows => rows,
    };
    let Value::Array(rows) = rows else {
        bail!("this proxy does not tell its {field}");
    };
    Ok(output.print(columns, rows))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_proxy_is_chosen_in_one_way() {
        let cases = [
            ("ztunnel workloads", true),
            ("ztunnel workloads z -n mesh", true),
            ("ztunnel workloads --node n -o json", true),
            ("ztunnel workloads --address 127.0.0.1:1", true),
            ("ztunnel workloads z --node n", false),
            ("ztunnel workloads z --address 127.0.0.1:1", false),
            ("ztunnel workloads --node n --address 127.0.0.1:1", false),
            ("ztunnel denials --node n", true),
            ("waypoint denials w", true),
            ("ztunnel routes z", false),
            ("waypoint routes", true),
            ("waypoint routes w -n shop", true),
            ("waypoint certificates w", true),
            ("waypoint routes w --address 127.0.0.1:1", false),
            ("waypoint routes --node n", false),
        ];
        for (line, good) in cases {
            let words = ["ambit"].into_iter().chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).is_ok(), good, "{line}");
        }
        let words = ["ambit", "ztunnel", "policies", "pod/z"];
        let cli = Cli::try_parse_from(words).expect("a command line");
        let Some(Command::Ztunnel(flags)) = cli.command else {
            panic!("ztunnel");
        };
        let (part, proxy) = flags.what.parts();
        assert_eq!(part, Part::Policies);
        assert_eq!(proxy.pod.as_deref().map(unprefixed), Some("z"));
    }

    #[test]
    fn parts_are_lists_or_counted_ones() {
        let dump = json!({
            "policies": [{"key": "shop/a"}],
            "connections": {"count": 7, "listed": [{"direction": "inbound"}]},
            "services": "many",
        });
        let show = |part| shown(part, Form::Table, dump.clone()).map_err(|it| it.to_string());
        let said = show(Part::Policies).expect("a list");
        assert!(said.contains("shop/a"), "{said}");
        let said = show(Part::Connections).expect("a counted list");
        assert!(said.contains("inbound"), "{said}");
        for part in [Part::Services, Part::Routes] {
            let said = show(part).expect_err("no list");
            assert!(said.starts_with("this proxy does not tell its "), "{said}");
        }
    }
}
