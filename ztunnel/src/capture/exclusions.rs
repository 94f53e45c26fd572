//! Rules for what is left alone of a pod's traffic. They only ever accept, so the chains' other rules say what is captured.

use ambit_core::exclusions::Exclusions;
use ambit_net::netlink::nft::{Chain, Protocol, Rule};

/// Ports of the pod: nothing that comes to them is captured, or has to come from the proxy.
pub(super) fn inbound(chain: Chain, protocol: Protocol, exclusions: &Exclusions) -> Chain {
    let ports = exclusions.inbound_ports.iter();
    ports.fold(chain, |chain, port| {
        let rule = of(protocol).destination_port(*port).accept();
        chain.rule(rule.comment("a port of the pod that is left alone"))
    })
}

/// What the pod dials, by port and by address.
pub(super) fn outbound(chain: Chain, protocol: Protocol, exclusions: &Exclusions) -> Chain {
    let ports = exclusions.outbound_ports.iter();
    let chain = ports.fold(chain, |chain, port| {
        let rule = of(protocol).destination_port(*port).accept();
        chain.rule(rule.comment("a port elsewhere that is left alone"))
    });
    let ranges = exclusions.outbound_ranges.iter();
    ranges.fold(chain, |chain, range| {
        let rule = of(protocol).destination(*range).accept();
        chain.rule(rule.comment("addresses that are left alone"))
    })
}

fn of(protocol: Protocol) -> Rule {
    Rule::new().protocol(protocol)
}
