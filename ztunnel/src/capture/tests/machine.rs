//! What is different on a machine, which others may be behind.

use std::net::UdpSocket;

use ambit_net::netlink::nft::{self, Chain, ChainKind, Family, Hook, Rule, Table, priority};

use super::*;

/// A container on the machine: 10.2.0.2 behind its device `container`, and 10.1.0.2 to everybody else.
fn container(machine: &OwnedFd) -> OwnedFd {
    let container = namespace();
    within(machine, || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("it forwards");
        let mut routes = Handle::open().expect("netlink opens");
        let end = Some(container.as_fd());
        routes.add_veth("container", "eth0", end).expect("a pair");
        routes.set_up("container").expect("up");
        let gateway = net("10.2.0.1/24");
        routes
            .add_address("container", gateway)
            .expect("an address");
        let masquerade = Chain::base("out", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT)
            .rule(Rule::new().source(net("10.2.0.0/24")).masquerade());
        let table = Table::new(Family::Inet, "containers").chain(masquerade);
        let mut filter = nft::Handle::open().expect("netlink opens");
        filter.replace(&table).expect("it masquerades");
    });
    within(&container, || {
        let mut routes = Handle::open().expect("netlink opens");
        for device in ["lo", "eth0"] {
            routes.set_up(device).expect("up");
        }
        let own = net("10.2.0.2/24");
        routes.add_address("eth0", own).expect("an address");
        let default = Route::default(Ip::V4).via(ip("10.2.0.1")).dev("eth0");
        routes.add_route(&default).expect("a route");
    });
    container
}

/// Asks the resolver, and is answered by it.
fn asks(from: &UdpSocket, resolver: &UdpSocket) {
    let patience = Some(Duration::from_secs(5));
    for socket in [from, resolver] {
        socket.set_read_timeout(patience).expect("set");
    }
    from.send_to(b"name?", at(NODE[0], 53)).expect("sent");
    let (_, asker) = resolver.recv_from(&mut [0; 8]).expect("asked");
    assert_eq!(peer(asker), ip(POD[0]), "the machine asks");
    resolver.send_to(b"this", asker).expect("sent");
    let (_, answerer) = from.recv_from(&mut [0; 8]).expect("answered");
    assert_eq!(answerer, at(NODE[0], 53));
}

#[test]
fn answers_to_containers_of_a_machine_are_theirs_and_the_proxys_its_own() {
    isolated(|| {
        let machine = pod();
        let container = container(&machine);
        let netns = Netns::from_fd(machine.try_clone().expect("a copy")).expect("a namespace");
        let resolver = UdpSocket::bind(at(NODE[0], 53)).expect("bound");
        let behind = within(&container, || {
            UdpSocket::bind(at("0.0.0.0", 4000)).expect("bound")
        });
        asks(&behind, &resolver);
        apply(&netns, &of_a_machine()).expect("applied");
        assert_eq!(
            verify(&netns, &of_a_machine()).expect("listed"),
            Vec::<String>::new()
        );
        // From a port that it has not asked from before, and from one that it has.
        let other = within(&container, || {
            UdpSocket::bind(at("0.0.0.0", 0)).expect("bound")
        });
        asks(&other, &resolver);
        asks(&behind, &resolver);
        let proxy = within(&machine, || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            socket.set_mark(PROXY_MARK).expect("marked");
            socket.bind(&at("0.0.0.0", 0).into()).expect("bound");
            UdpSocket::from(socket)
        });
        asks(&proxy, &resolver);
    });
}
