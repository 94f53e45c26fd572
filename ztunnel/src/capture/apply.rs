//! The redirection in the kernel.

use std::fs;
use std::io;
use std::net::IpAddr;

use ambit_net::netlink::{self, nft, route};
use ambit_net::sys::Netns;
use nix::errno::Errno;

use super::rules::{Options, Redirection, host, redirection, yielding};

/// Says whether IPv6 is off in the namespace of the thread that reads it.
const IPV6_OFF: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

/// Why a pod's traffic is not captured, or not released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its namespace cannot be entered.
    #[error("cannot enter the pod's network namespace: {0}")]
    Enter(io::Error),
    /// The kernel refused a part of the redirection.
    #[error("cannot set the pod's traffic redirection: {0}")]
    Refused(#[from] netlink::Error),
}

impl Error {
    /// Whether this process has not the right to it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(error) if error.errno == Errno::EPERM)
    }
}

/// Captures the traffic of the pod in `netns`. Applying again changes nothing, or repairs. Blocks for some milliseconds.
///
/// # Errors
/// When the kernel refuses; the pod's traffic then goes as before.
pub fn apply(netns: &Netns, options: &Options) -> Result<(), Error> {
    inside(netns, || set(&redirection(options)))
}

/// Captures no new connection of the pod in `netns`. Those that the proxy has go on.
///
/// # Errors
/// When the kernel refuses.
pub fn yield_traffic(netns: &Netns) -> Result<(), Error> {
    inside(netns, || set(&yielding()))
}

/// Releases the traffic of the pod in `netns`, whatever part of the redirection is there.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(netns: &Netns) -> Result<(), Error> {
    let all = Options {
        udp: true,
        ..Options::default()
    };
    inside(netns, || unset(&redirection(&all)))
}

/// What is missing of the redirection of the pod in `netns`, one line each.
///
/// # Errors
/// When the kernel does not tell.
pub fn verify(netns: &Netns, options: &Options) -> Result<Vec<String>, Error> {
    inside(netns, || missing(&redirection(options)))
}

/// Sets the node's own table for these pods, in the calling thread's namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn apply_host(pods: impl IntoIterator<Item = IpAddr>) -> Result<(), netlink::Error> {
    nft::Handle::open()?.replace(&host(pods))
}

/// What is missing of the node's own table, in the calling thread's namespace, one line each. Whose pods it is about is
/// not compared.
///
/// # Errors
/// When the kernel does not tell.
pub fn verify_host() -> Result<Vec<String>, netlink::Error> {
    nft::Handle::open()?.differences(&host([]))
}

/// Removes the node's own table.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_host() -> Result<(), netlink::Error> {
    let table = host([]);
    nft::Handle::open()?.remove(table.family, &table.name)
}

/// Runs `work` in the namespace and keeps its own error.
fn inside<T>(netns: &Netns, work: impl FnOnce() -> Result<T, netlink::Error>) -> Result<T, Error> {
    let done = netns.run(|| Ok(work())).map_err(Error::Enter)?;
    Ok(done?)
}

/// The table comes last: from its moment on there is a way back for replies.
fn set(wanted: &Redirection) -> Result<(), netlink::Error> {
    let mut routes = route::Handle::open()?;
    for route in wanted.routes.iter().filter(|route| has(family(route))) {
        routes.add_route(route)?;
    }
    for policy in wanted.policies.iter().filter(|it| has(it.family)) {
        routes.add_rule(policy)?;
    }
    nft::Handle::open()?.replace(&wanted.table)
}

/// The table goes first: nothing is captured without a way back.
fn unset(wanted: &Redirection) -> Result<(), netlink::Error> {
    nft::Handle::open()?.remove(wanted.table.family, &wanted.table.name)?;
    let mut routes = route::Handle::open()?;
    for policy in &wanted.policies {
        gone(routes.delete_rule(policy))?;
    }
    for route in &wanted.routes {
        gone(routes.delete_route(route))?;
    }
    Ok(())
}

/// What was not there is gone as well.
fn gone(removed: Result<(), netlink::Error>) -> Result<(), netlink::Error> {
    match removed {
        Err(error) if !error.is_absent() && error.errno != Errno::EAFNOSUPPORT => Err(error),
        _ => Ok(()),
    }
}

fn missing(wanted: &Redirection) -> Result<Vec<String>, netlink::Error> {
    let mut lines = nft::Handle::open()?.differences(&wanted.table)?;
    let mut routes = route::Handle::open()?;
    let policies = routes.policy_rules()?;
    for policy in wanted.policies.iter().filter(|it| has(it.family)) {
        if !policies.contains(policy) {
            lines.push(format!("rule {policy} is missing"));
        }
    }
    for route in wanted.routes.iter().filter(|route| has(family(route))) {
        let held = routes.routes(route.table)?;
        if !held
            .iter()
            .any(|h| h.to == route.to && h.local && h.dev == route.dev)
        {
            lines.push(format!("route {route} is missing"));
        }
    }
    Ok(lines)
}

fn family(route: &route::Route) -> route::Ip {
    route::Ip::of(route.to.addr())
}

/// Without IPv6 in the pod there is nothing to route; the packet filter's rules for it do no harm.
fn has(family: route::Ip) -> bool {
    family == route::Ip::V4 || fs::read_to_string(IPV6_OFF).is_ok_and(|off| off.trim() == "0")
}
