//! One connection from end to end, by decisions alone: discovery resources in, what the client's
//! proxy does, what the server's proxy does, and what policies say.

use ambit_core::authz::{Reason, authorize};
use ambit_core::balance::Seeded;
use ambit_core::convert::{address_change, authorization_change};
use ambit_core::identity::Identity;
use ambit_core::index::{Change, Index};
use ambit_core::plan::{
    Inbound, Outbound, OutboundKind, OutboundTrafficPolicy, Passthrough, plan_inbound,
    plan_outbound, plan_passthrough,
};
use ambit_proto::{security, workload};
use prost::Message;

const CLIENT: &str = "Kubernetes//Pod/shop/client";
const SERVER: &str = "Kubernetes//Pod/shop/server";

fn pod(uid: &str, ip: [u8; 4], account: &str) -> workload::Workload {
    workload::Workload {
        uid: uid.into(),
        name: account.into(),
        namespace: "shop".into(),
        service_account: account.into(),
        addresses: vec![ip.to_vec().into()],
        tunnel_protocol: workload::TunnelProtocol::Hbone.into(),
        ..workload::Workload::default()
    }
}

fn address(index: &mut Index, name: &str, of: workload::address::Type) {
    let bytes = workload::Address { r#type: Some(of) }.encode_to_vec();
    index.apply(address_change(name, &bytes).expect("a valid resource"));
}

/// A mesh of two pods; `server` is the endpoint of a service on 10.96.0.1:80.
fn mesh() -> Index {
    use workload::address::Type;
    let mut server = pod(SERVER, [10, 0, 2, 1], "server");
    let ports = workload::PortList {
        ports: vec![workload::Port {
            service_port: 80,
            target_port: 8080,
            app_protocol: 0,
        }],
    };
    let hostname = "web.shop.svc.cluster.local";
    let service_name = format!("shop/{hostname}");
    server.services.insert(service_name.clone(), ports.clone());
    let service = workload::Service {
        name: "web".into(),
        namespace: "shop".into(),
        hostname: hostname.into(),
        addresses: vec![workload::NetworkAddress {
            network: String::new(),
            address: vec![10, 96, 0, 1].into(),
            length: None,
        }],
        ports: ports.ports,
        ..workload::Service::default()
    };
    let mut index = Index::default();
    let client = pod(CLIENT, [10, 0, 1, 1], "client");
    address(&mut index, CLIENT, Type::Workload(client));
    address(&mut index, SERVER, Type::Workload(server));
    address(&mut index, &service_name, Type::Service(service));
    index.apply(Change::PoliciesSynced);
    index
}

/// Only `account` may reach the pods of the namespace.
fn allow(index: &mut Index, account: &str) {
    let exact =
        security::string_match::MatchType::Exact(format!("cluster.local/ns/shop/sa/{account}"));
    let policy = security::Authorization {
        name: "callers".into(),
        namespace: "shop".into(),
        scope: security::Scope::Namespace.into(),
        action: security::Action::Allow.into(),
        rules: vec![security::Rule {
            clauses: vec![security::Clause {
                matches: vec![security::Match {
                    principals: vec![security::StringMatch {
                        match_type: Some(exact),
                    }],
                    ..security::Match::default()
                }],
            }],
        }],
        dry_run: false,
    };
    let (change, error) = authorization_change("shop/callers", &policy.encode_to_vec());
    assert_eq!(error, None);
    index.apply(change);
}

/// What becomes of the client's connection to the service; `Err` says why it is refused.
fn connect(index: &Index) -> Result<String, String> {
    let client = index.workload(CLIENT).expect("known");
    let client_addr = "10.0.1.1:40000".parse().expect("an address");
    let outbound = Outbound {
        source: client,
        source_addr: client_addr,
        destination: "10.96.0.1:80".parse().expect("an address"),
        local: &|_| false,
        streams: &|_, _| 0,
        hosts: &|_| None,
        exclude: &[],
        policy: OutboundTrafficPolicy::AllowAny,
        transport: ambit_core::plan::Transport::Tcp,
    };
    let plan = plan_outbound(index, &outbound, &mut Seeded::new(1)).map_err(|r| r.reason)?;
    let OutboundKind::Hbone(tunnel) = plan.kind else {
        panic!("no tunnel: {:?}", plan.kind);
    };
    // The TLS connection: each side proves who it is.
    let server = index.workload(SERVER).expect("known");
    assert_eq!(tunnel.identities, std::slice::from_ref(&server.identity));
    let inbound = Inbound {
        local: server,
        peer: &client.identity,
        peer_addr: client_addr,
        socket_destination: tunnel.target,
        authority: &tunnel.authority.to_string(),
        forwarded_host: None,
        forwarded_for: None,
        caller: None,
        transport: ambit_core::plan::Transport::Tcp,
    };
    let plan = plan_inbound(index, &inbound).map_err(|refusal| refusal.reason)?;
    let facts = plan.facts(Some(&client.identity), client_addr);
    let verdict = authorize(index, server, &facts);
    verdict
        .into_result(ambit_core::plan::Transport::Tcp)
        .map_err(|refusal| refusal.reason)?;
    Ok(plan.dial.to_string())
}

#[test]
fn from_the_service_address_to_the_application() {
    assert_eq!(connect(&mesh()).as_deref(), Ok("10.0.2.1:8080"));
}

#[test]
fn a_policy_admits_by_identity() {
    let mut index = mesh();
    allow(&mut index, "someone");
    assert_eq!(
        connect(&index).expect_err("not admitted"),
        "denied: no rule of the ALLOW policy shop/callers matches"
    );
    allow(&mut index, "client");
    assert_eq!(connect(&index).as_deref(), Ok("10.0.2.1:8080"));

    let server = index.workload(SERVER).expect("known");
    let peer: Identity = "spiffe://cluster.local/ns/shop/sa/client"
        .parse()
        .expect("valid");
    assert_eq!(peer, index.workload(CLIENT).expect("known").identity);
    // Without a certificate the same pod is nobody.
    let passthrough = Passthrough {
        local: server,
        peer_addr: "10.0.1.1:40000".parse().expect("an address"),
        destination: "10.0.2.1:8080".parse().expect("an address"),
        transport: ambit_core::plan::Transport::Tcp,
    };
    let plan = plan_passthrough(&index, &passthrough).expect("not refused by itself");
    let verdict = authorize(&index, server, &plan.facts(None, passthrough.peer_addr));
    assert!(!verdict.allowed);
    assert!(matches!(verdict.reason, Reason::NoneAllows { .. }));
}

#[test]
fn a_policy_that_does_not_decode_closes_its_namespace() {
    let mut index = mesh();
    let (change, error) = authorization_change("shop/garbled", &[0xff]);
    assert!(error.is_some());
    index.apply(change);
    let refused = connect(&index).expect_err("closed");
    assert!(
        refused.starts_with("denied: policy shop/garbled cannot be understood"),
        "{refused}"
    );
    index.apply(Change::RemovePolicy(
        "shop/garbled".parse().expect("a name"),
    ));
    assert_eq!(connect(&index).as_deref(), Ok("10.0.2.1:8080"));
}
