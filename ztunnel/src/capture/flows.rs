//! Rules for UDP of a pod that asks for it to be captured. Packets stay as they are (`tproxy`), so that the proxy is told
//! with each of them where it was going.
//!
//! What the pod sends gets a mark that leads it back to `lo`, where it meets the proxy as if it came from elsewhere. Ways
//! back are told by the kernel's table of connections: what answers a flow that went past the proxy goes past it as well, and what
//! answers one that did not comes from the proxy or not at all. Whatever comes is in that table, forged or not, so a flow counts as
//! past the proxy by what the rules have let pass alone: all others have a mark.

use ambit_core::exclusions::Exclusions;
use ambit_net::netlink::Mark;
use ambit_net::netlink::nft::{Chain, ChainKind, Hook, Protocol, priority};
use ipnet::IpNet;

use super::exclusions;
use super::rules::{ANSWERS, INBOUND_PORT, OUTBOUND_PORT, Options, PROXY, REPLIES, udp};

/// On what is captured of what the pod sends, and on its flows.
pub(super) const CAPTURED: Mark = Mark {
    value: 0x222,
    mask: 0xfff,
};

/// On flows that the proxy has with others than the pod, and on those that others have with the pod by the proxy.
const OWN: Mark = Mark {
    value: 0x333,
    mask: 0xfff,
};

/// On flows that the proxy has nothing to do with.
const PAST: Mark = Mark {
    value: 0,
    mask: 0xfff,
};

/// What is for more than one receiver, or for the other end of a wire.
const OF_THE_LINK: [&str; 4] = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10"];

/// What the pod sends, after the rules that keep its answers to the proxy here.
pub(super) fn outbound(options: &Options) -> Chain {
    let left_alone = &options.exclusions;
    let chain = Chain::base(
        "udp-out",
        ChainKind::Route,
        Hook::Output,
        priority::MANGLE + 1,
    );
    let chain = if options.captures_dns() {
        let rule = udp().mark(PROXY).destination_port(53).accept();
        chain.rule(rule.comment("DNS of the proxy"))
    } else {
        chain
    };
    let mut chain = chain
        .rule(
            udp()
                .mark(PROXY)
                .output("lo")
                .accept()
                .comment("of the proxy to the pod"),
        )
        .rule(
            udp()
                .mark(PROXY)
                .set_connection_mark(OWN)
                .accept()
                .comment("of the proxy"),
        )
        .rule(
            udp()
                .reply()
                .mark(ANSWERS)
                .accept()
                .comment("answers of the proxy"),
        )
        .rule(
            udp()
                .mark(ANSWERS)
                .set_connection_mark(OWN)
                .accept()
                .comment("answers of the proxy to what is forgotten"),
        )
        .rule(udp().mark(REPLIES).accept().comment("answers to the proxy"))
        .rule(udp().output("lo").accept().comment("the pod to itself"))
        .rule(
            udp()
                .reply()
                .connection_mark(PAST)
                .accept()
                .comment("answers to what came past the proxy"),
        );
    for net in of_the_link() {
        chain = chain.rule(udp().destination(net).accept().comment("for the link"));
    }
    for port in &left_alone.inbound_ports {
        let rule = udp().source_port(*port).accept();
        chain = chain.rule(rule.comment("a port of the pod that is left alone"));
    }
    chain = exclusions::outbound(chain, Protocol::Udp, left_alone);
    if options.captures_dns() {
        let rule = udp().destination_port(53).accept();
        chain = chain.rule(rule.comment("DNS has a way of its own"));
    }
    chain.rule(
        udp()
            .set_connection_mark(CAPTURED)
            .set_mark(CAPTURED)
            .comment("UDP of the pod"),
    )
}

/// What arrives: of the pod's own by `lo`, of others by any other device.
pub(super) fn inbound(left_alone: &Exclusions) -> Chain {
    let answer_to = |mark| udp().reply().connection_mark(mark);
    let mut chain = Chain::base(
        "udp-in",
        ChainKind::Filter,
        Hook::Prerouting,
        priority::MANGLE + 1,
    )
    .rule(
        udp()
            .input("lo")
            .mark(CAPTURED)
            .tproxy(OUTBOUND_PORT)
            .accept()
            .comment("UDP of the pod"),
    )
    .rule(
        udp()
            .input("lo")
            .mark(CAPTURED)
            .drop()
            .comment("past the proxy"),
    )
    .rule(
        udp()
            .input("lo")
            .reply()
            .mark(REPLIES)
            .to_transparent_socket()
            .accept()
            .comment("answers of the pod to the proxy"),
    )
    .rule(
        udp()
            .input("lo")
            .reply()
            .mark(REPLIES)
            .drop()
            .comment("answers of the pod to a flow that has ended"),
    )
    .rule(
        udp()
            .input("lo")
            .accept()
            .comment("of the proxy, and the pod to itself"),
    )
    .rule(
        answer_to(CAPTURED)
            .drop()
            .comment("an answer that did not come by the proxy"),
    )
    .rule(
        answer_to(OWN)
            .tproxy(INBOUND_PORT)
            .accept()
            .comment("answers to the proxy, or plaintext to the pod that it has answered"),
    )
    .rule(answer_to(OWN).drop().comment("past the proxy"))
    .rule(
        udp()
            .reply()
            .accept()
            .comment("answers to what went past the proxy"),
    );
    for net in of_the_link().filter(|net| net.addr().is_multicast() || net.prefix_len() == 32) {
        chain = chain.rule(udp().destination(net).accept().comment("for more than one"));
    }
    exclusions::inbound(chain, Protocol::Udp, left_alone)
        .rule(
            udp()
                .set_connection_mark(OWN)
                .tproxy(INBOUND_PORT)
                .accept()
                .comment("plaintext to the pod"),
        )
        .rule(udp().drop().comment("past the proxy"))
}

fn of_the_link() -> impl Iterator<Item = IpNet> {
    OF_THE_LINK
        .into_iter()
        .map(|net| net.parse().expect("a network"))
}
