//! Links, addresses and routes: a bridge, a network namespace for every node joined to it, a network
//! namespace for every pod joined to its node.

use std::fs;
use std::io;
use std::net::IpAddr;

use ambit_net::netlink::route::{Handle, Ip, Route};
use ambit_net::sys::Netns;
use ipnet::IpNet;

use super::namespace::NamedNetns;
use super::plan::{self, Pair};

pub(super) const BRIDGE: &str = "lab0";
const BRIDGE_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NODE_DEVICE: &str = "eth0";
const POD_DEVICE: &str = "eth0";
pub(super) const MTU: u32 = 1500;

/// Makes the bridge in the namespace of the calling thread.
///
/// # Errors
/// As the kernel says.
pub fn build_bridge() -> io::Result<()> {
    quiet_ipv6()?;
    let mut links = Handle::open()?;
    links.set_up("lo")?;
    links.add_bridge(BRIDGE)?;
    // Else it is the lowest of its ports', and another one whenever a port comes or goes.
    links.set_hardware_address(BRIDGE, BRIDGE_HARDWARE)?;
    address(&mut links, BRIDGE, plan::bridge(), plan::BRIDGE_PREFIX)?;
    links.set_up(BRIDGE)?;
    Ok(())
}

/// The device in the lab's own namespace that everything to and from a node crosses.
#[must_use]
pub fn node_port(number: u8) -> String {
    format!("node-{number}")
}

/// Joins node `number` to the bridge, with routes to the pods of its `neighbours` and of no other node. The calling thread is in
/// the bridge's namespace.
///
/// # Errors
/// As the kernel says.
pub fn join_node(number: u8, neighbours: &[u8], node: &NamedNetns) -> io::Result<()> {
    let port = node_port(number);
    // Before there is a device: it starts as its namespace says.
    node.netns().run(quiet_ipv6)?;
    let mut links = Handle::open()?;
    links.add_veth(
        &port,
        NODE_DEVICE,
        Some(std::os::fd::AsFd::as_fd(node.netns())),
    )?;
    links.set_master(&port, Some(BRIDGE))?;
    links.set_mtu(&port, MTU)?;
    links.set_up(&port)?;
    let node_addresses = plan::node(number);
    for (range, via) in ranges(plan::pod_range(number))
        .into_iter()
        .zip(node_addresses.both())
    {
        links.add_route(&Route::to(range).via(via).dev(BRIDGE))?;
    }
    node.netns().run(|| {
        forward()?;
        let mut links = Handle::open()?;
        links.set_up("lo")?;
        address(&mut links, NODE_DEVICE, node_addresses, plan::BRIDGE_PREFIX)?;
        links.set_mtu(NODE_DEVICE, MTU)?;
        links.set_up(NODE_DEVICE)?;
        address(&mut links, "lo", plan::dns(), (32, 128))?;
        for other in neighbours {
            let via = plan::node(*other).both();
            for (range, via) in ranges(plan::pod_range(*other)).into_iter().zip(via) {
                links.add_route(&Route::to(range).via(via).dev(NODE_DEVICE))?;
            }
        }
        // Services have no interface: the route is for picking a source address, before the
        // packet filter picks an endpoint.
        let services = [plan::SERVICE_RANGES.0, plan::SERVICE_RANGES.1];
        for (range, source) in services.into_iter().zip(node_addresses.both()) {
            let range: IpNet = range.parse().map_err(io::Error::other)?;
            links.add_route(&Route::to(range).dev(NODE_DEVICE).source(source))?;
        }
        Ok(())
    })
}

/// Joins machine `number` to the bridge, with routes to the pods of `nodes`. It has no way to the addresses of services. The calling
/// thread is in the bridge's namespace.
///
/// # Errors
/// As the kernel says.
pub fn join_machine(number: u8, nodes: &[u8], machine: &NamedNetns) -> io::Result<()> {
    let port = format!("machine-{number}");
    machine.netns().run(quiet_ipv6)?;
    let mut links = Handle::open()?;
    let inside = std::os::fd::AsFd::as_fd(machine.netns());
    links.add_veth(&port, NODE_DEVICE, Some(inside))?;
    links.set_master(&port, Some(BRIDGE))?;
    links.set_mtu(&port, MTU)?;
    links.set_up(&port)?;
    machine.netns().run(|| {
        let mut links = Handle::open()?;
        links.set_up("lo")?;
        let own = plan::machine(number);
        address(&mut links, NODE_DEVICE, own, plan::BRIDGE_PREFIX)?;
        links.set_mtu(NODE_DEVICE, MTU)?;
        links.set_up(NODE_DEVICE)?;
        for (family, via) in Ip::BOTH.into_iter().zip(plan::bridge().both()) {
            links.add_route(&Route::default(family).via(via).dev(NODE_DEVICE))?;
        }
        for node in nodes {
            let via = plan::node(*node).both();
            for (range, via) in ranges(plan::pod_range(*node)).into_iter().zip(via) {
                links.add_route(&Route::to(range).via(via).dev(NODE_DEVICE))?;
            }
        }
        Ok(())
    })
}

/// Joins a pod to its node by the device `device` on the node.
///
/// # Errors
/// As the kernel says.
pub fn join_pod(
    node: &Netns,
    number: u8,
    pod: &NamedNetns,
    device: &str,
    addresses: Pair,
) -> io::Result<()> {
    let gateway = plan::gateway(number);
    pod.netns().run(quiet_ipv6)?;
    node.run(|| {
        let mut links = Handle::open()?;
        links.add_veth(
            device,
            POD_DEVICE,
            Some(std::os::fd::AsFd::as_fd(pod.netns())),
        )?;
        links.set_mtu(device, MTU)?;
        address(&mut links, device, gateway, (32, 128))?;
        links.set_up(device)?;
        for address in addresses.both() {
            links.add_route(&Route::to(IpNet::from(address)).dev(device))?;
        }
        Ok(())
    })?;
    pod.netns().run(|| {
        // As container runtimes do: a program that is not root may serve port 80 of its pod.
        set("net/ipv4/ip_unprivileged_port_start", "0")?;
        let mut links = Handle::open()?;
        links.set_up("lo")?;
        links.set_mtu(POD_DEVICE, MTU)?;
        address(&mut links, POD_DEVICE, addresses, (32, 128))?;
        links.set_up(POD_DEVICE)?;
        for (family, via) in Ip::BOTH.into_iter().zip(gateway.both()) {
            links.add_route(&Route::default(family).via(via).dev(POD_DEVICE).onlink())?;
        }
        Ok(())
    })
}

/// The addresses of a node's pods.
pub(super) fn pod_ranges(number: u8) -> [IpNet; 2] {
    ranges(plan::pod_range(number))
}

/// A node's route to an address behind another node.
pub(super) fn route_by_node(to: IpAddr, node: u8) -> Route {
    let [v4, v6] = plan::node(node).both();
    let via = if to.is_ipv4() { v4 } else { v6 };
    Route::to(IpNet::from(to)).via(via).dev(NODE_DEVICE)
}

/// Takes a pod's device off its node.
///
/// # Errors
/// As the kernel says; a device that is gone is fine.
pub fn part_pod(node: &Netns, device: &str) -> io::Result<()> {
    node.run(|| match Handle::open()?.delete_link(device) {
        Err(error) if !error.is_absent() => Err(error.into()),
        _ => Ok(()),
    })
}

fn address(links: &mut Handle, device: &str, pair: Pair, prefix: (u8, u8)) -> io::Result<()> {
    for (address, length) in pair.both().into_iter().zip([prefix.0, prefix.1]) {
        links.add_address(device, net(address, length))?;
    }
    Ok(())
}

fn ranges(first: Pair) -> [IpNet; 2] {
    [
        net(first.v4.into(), plan::POD_PREFIX.0),
        net(first.v6.into(), plan::POD_PREFIX.1),
    ]
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).expect("the plan's prefix lengths fit their families")
}

/// Addresses are usable at once, and no router is asked for more.
fn quiet_ipv6() -> io::Result<()> {
    for scope in ["all", "default"] {
        set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
        set(&format!("net/ipv6/conf/{scope}/router_solicitations"), "0")?;
    }
    Ok(())
}

fn forward() -> io::Result<()> {
    set("net/ipv4/ip_forward", "1")?;
    set("net/ipv4/conf/all/rp_filter", "0")?;
    set("net/ipv4/conf/default/rp_filter", "0")?;
    set("net/ipv6/conf/all/forwarding", "1")
}

/// Sets a kernel parameter of the calling thread's network namespace.
pub(super) fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{name}");
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}
