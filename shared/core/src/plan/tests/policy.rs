//! Connections to what the mesh does not know, and what it knows.

use super::outbound::{client, outbound, shown};
use crate::balance::First;
use crate::fixtures::{index, pod, service};
use crate::model::service::Mode;
use crate::model::{NetworkMode, TunnelProtocol};
use crate::plan::{Outbound, OutboundTrafficPolicy, ResponseFlag, plan_outbound};

#[test]
fn only_what_is_known_is_reached() {
    let mut as_dialled = service("ns/range", &["192.0.2.0/24", "2001:db8::/32"]);
    as_dialled.load_balancing.mode = Mode::Passthrough;
    let mut entry = pod("vm", &["198.51.100.7"]);
    (entry.node, entry.tunnel_protocol) = ("".into(), TunnelProtocol::None);
    let mut on_node = pod("exporter", &["192.168.0.1", "fd02::1"]);
    on_node.network_mode = NetworkMode::HostNetwork;
    let mut private = service("other/private", &["10.1.0.9"]);
    private.namespace_private = true;
    let mut far = pod("far", &["10.0.5.5"]);
    far.network = "net2".into();
    let index = index([
        client().into(),
        service("ns/web", &["10.1.0.1"]).into(),
        service("ns/allocated", &["240.240.0.1"]).into(),
        as_dialled.into(),
        pod("a", &["10.0.0.1"])
            .serving("ns/web", &[(80, 8080)])
            .serving("ns/allocated", &[(80, 8080)])
            .into(),
        entry.into(),
        on_node.into(),
        private.into(),
        far.into(),
    ]);
    let client = client();
    let plan = |destination: &str, policy| {
        let outbound = Outbound {
            policy,
            ..outbound(&client, destination)
        };
        plan_outbound(&index, &outbound, &mut First)
    };
    for known in [
        "10.1.0.1:80",
        "10.0.0.1:9999",
        "240.240.0.1:80",
        "192.0.2.200:443",
        "[2001:db8::7]:443",
        "198.51.100.7:5432",
        "192.168.0.1:10250",
        "[::ffff:192.168.0.1]:10250",
        "[fd02::1]:9100",
        "10.0.0.9:80",
        "127.0.0.1:80",
        "[::1]:80",
    ] {
        let [any, only] = [
            OutboundTrafficPolicy::AllowAny,
            OutboundTrafficPolicy::RegistryOnly,
        ]
        .map(|policy| shown(&plan(known, policy)));
        assert_eq!(any, only, "{known}");
        assert!(!only.contains(char::is_uppercase), "{known}: {only}");
    }
    for unknown in [
        "1.1.1.1:443",
        "[2606:4700::1]:443",
        "169.254.169.254:80",
        "192.168.0.2:10250",
        "10.1.0.9:80",
        "10.0.5.5:80",
    ] {
        let passed = plan(unknown, OutboundTrafficPolicy::AllowAny);
        assert_eq!(shown(&passed), format!("plain {unknown} [- -]"));
        let refusal = plan(unknown, OutboundTrafficPolicy::RegistryOnly).expect_err(unknown);
        assert_eq!(refusal.flag, ResponseFlag::Deny);
        assert_eq!(
            refusal.reason,
            format!(
                "{unknown} is no service and no workload that the mesh knows, and the outbound traffic policy is \
                 REGISTRY_ONLY; a ServiceEntry makes it known"
            )
        );
    }
}

#[test]
fn policies_are_words() {
    for policy in [
        OutboundTrafficPolicy::AllowAny,
        OutboundTrafficPolicy::RegistryOnly,
    ] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
        let text = serde_json::to_value(policy).expect("JSON");
        assert_eq!(text, policy.to_string());
    }
    for text in ["", "registry_only", "REGISTRY-ONLY", "ANY"] {
        text.parse::<OutboundTrafficPolicy>().expect_err(text);
    }
}
