//! A part of the mesh in the place of the one that runs, with more variables if there are any: what a rollout does on a cluster.
//!
//! A node proxy's successor serves before the earlier one ends. Both are in the node's network namespace here, where on a cluster
//! each has its pod's. So the later one has its own servers at other ports, and once it is ready the usual ones lead there: a rule of
//! the kernel, which whoever asks does not notice. Control has none, and ends first.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ambit_net::netlink::nft::{
    Chain, ChainKind, Family, Handle, Hook, Protocol, Rule, Table, priority,
};
use ipnet::IpNet;
use tokio::sync::oneshot;

use super::component::Recipe;
use super::{Mesh, names};
use crate::cluster::{Cluster, LabNode};

/// One of a node proxy's own servers.
struct Server {
    variable: &'static str,
    /// Whom it answers: an address that it is told, without the port.
    at: &'static str,
    /// The usual port, as users and scrapers know it.
    port: u16,
}

const SERVERS: [Server; 3] = [
    Server {
        variable: "ADMIN_ADDR",
        at: LOOPBACK,
        port: 15000,
    },
    Server {
        variable: "STATS_ADDR",
        at: "[::]",
        port: 15020,
    },
    READINESS,
];
const READINESS: Server = Server {
    variable: "READINESS_ADDR",
    at: "[::]",
    port: 15021,
};
const LOOPBACK: &str = "localhost";
/// How far the servers of successors are from the usual ports, in turn: two of them are there at once.
const SHIFTS: [u16; 2] = [1000, 2000];
const TABLE: &str = "lab-successor";

/// How far from the usual ports the servers of this recipe are.
fn shift(recipe: &Recipe) -> u16 {
    let told = recipe.spec.env.get(READINESS.variable);
    let port = told.and_then(|address| address.rsplit(':').next()?.parse::<u16>().ok());
    port.map_or(0, |port| port.saturating_sub(READINESS.port))
}

/// Where the node proxy of this recipe says that it is ready.
pub(super) fn readiness(recipe: &Recipe) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, READINESS.port + shift(recipe)))
}

impl Mesh {
    /// Starts control or a node proxy anew with these variables besides those it has, and waits until it is ready
    /// and the earlier one gone.
    ///
    /// # Errors
    /// There is nothing of that name that can be replaced, or why it is not ready.
    pub async fn replace(
        &self,
        cluster: &Cluster,
        name: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let node = name.strip_prefix("ztunnel/");
        let node = node.and_then(|node| cluster.node(node));
        let component = match self.components.get(name) {
            Some(component) if name == "control" || node.is_some() => component,
            known => return Err(irreplaceable(cluster, name, known.is_some())),
        };
        let mut recipe = component.recipe();
        recipe.spec.env.extend(env.clone());
        let gone = "it was not replaced";
        let Some(node) = node else {
            let trust_domains = names::of(&recipe.spec.env)?;
            let ended = component.replace(recipe, None);
            ended.await.map_err(|_| gone.to_owned())?;
            self.await_component(cluster, name).await?;
            cluster.write(|store| store.name_mesh(trust_domains));
            return Ok(());
        };
        let shift = move_away(&mut recipe, shift(&component.recipe()));
        let (serves, serving) = oneshot::channel();
        let ended = component.replace(recipe, Some(serving));
        let ready = self.await_component(cluster, name).await;
        // Who is not ready has the place all the same.
        let led = lead(node, shift);
        drop(serves);
        ended.await.map_err(|_| gone.to_owned())?;
        ready.and(led)
    }
}

/// Why there is nothing to replace, and what there is.
fn irreplaceable(cluster: &Cluster, name: &str, known: bool) -> String {
    let nodes = cluster.nodes.iter();
    let nodes: Vec<_> = nodes.map(|it| format!("ztunnel/{}", it.name)).collect();
    let why = match known {
        true => format!("{name} cannot be replaced"),
        false => format!("no part of the mesh is called {name:?}"),
    };
    format!("{why}: control and {} can be replaced", nodes.join(", "))
}

/// Moves a node proxy's own servers away from those of its predecessor, which are `before` so far from the usual ports, and its files
/// with them. How far they are from there.
fn move_away(recipe: &mut Recipe, before: u16) -> u16 {
    let shift = if before == SHIFTS[0] {
        SHIFTS[1]
    } else {
        SHIFTS[0]
    };
    let moved = SERVERS.map(|server| {
        let address = format!("{}:{}", server.at, server.port + shift);
        (server.variable.to_owned(), address)
    });
    recipe.spec.env.extend(moved);
    recipe.spec.scratch.set_extension(format!("view-{shift}"));
    recipe.file.set_extension(format!("json-{shift}"));
    shift
}

/// Leads from the usual ports of a node to those of the successor.
fn lead(node: &LabNode, shift: u16) -> Result<(), String> {
    let table = table(shift);
    let replace = || Ok(Handle::open()?.replace(&table)?);
    let replaced = node.netns.netns().run(replace);
    replaced.map_err(|error| format!("the usual ports do not lead to the successor: {error}"))
}

fn table(shift: u16) -> Table {
    let nat = |name, hook| Chain::base(name, ChainKind::Nat, hook, priority::DSTNAT);
    let mut from_here = nat("output", Hook::Output);
    let mut from_others = nat("prerouting", Hook::Prerouting);
    for server in SERVERS {
        let asked = |rule: Rule| rule.protocol(Protocol::Tcp).destination_port(server.port);
        let there = server.port + shift;
        if server.at == LOOPBACK {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            for address in loopback {
                let rule = asked(Rule::new().destination(IpNet::from(address)));
                from_here = from_here.rule(rule.dnat(SocketAddr::new(address, there)));
            }
        } else {
            let rule = || asked(Rule::new().to_this_host()).redirect(there);
            from_here = from_here.rule(rule());
            from_others = from_others.rule(rule());
        }
    }
    Table::new(Family::Inet, TABLE)
        .chain(from_here)
        .chain(from_others)
}
