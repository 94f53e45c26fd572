use std::sync::Arc;
use std::time::Duration;

use ambit_core::index::{Change, Index};
use ambit_core::plan::{ResponseFlag, Transport};
use ambit_telemetry::access::Direction;

use super::*;
use crate::testing::{World, addr, deny, strict, workload};

fn index(changes: impl IntoIterator<Item = Change>) -> Index {
    let mut index = Index::default();
    for name in ["client", "server"] {
        let ip = if name == "client" {
            "10.0.0.1"
        } else {
            "10.0.0.2"
        };
        index.apply(Change::Workload(Arc::new(workload(name, ip))));
    }
    changes.into_iter().for_each(|change| index.apply(change));
    index
}

fn tunnel(authority: &str) -> Claim {
    Claim {
        local: "Kubernetes//Pod/ns/server".into(),
        peer_addr: addr("10.0.0.1:40000"),
        transport: Transport::Tcp,
        asked: Asked::Tunnel {
            peer: Arc::new(workload("client", "10.0.0.1").identity),
            socket: addr("10.0.0.2:15008"),
            authority: authority.into(),
            forwarded_host: None,
            forwarded_for: None,
            caller: None,
        },
    }
}

fn plaintext() -> Claim {
    Claim {
        asked: Asked::Plaintext {
            destination: addr("10.0.0.2:80"),
        },
        ..tunnel("")
    }
}

#[test]
fn judgements() {
    let client = workload("client", "10.0.0.1").identity;
    let synced = || Change::PoliciesSynced;
    let stranger = Claim {
        local: "Kubernetes//Pod/ns/stranger".into(),
        ..plaintext()
    };
    let cases = [
        ("a tunnel", index([synced()]), tunnel("10.0.0.2:80"), None),
        ("plaintext", index([synced()]), plaintext(), None),
        (
            "before policies are known",
            index([]),
            tunnel("10.0.0.2:80"),
            Some(401),
        ),
        (
            "denied",
            index([synced(), deny(&client)]),
            tunnel("10.0.0.2:80"),
            Some(401),
        ),
        (
            "another is denied",
            index([synced(), strict()]),
            tunnel("10.0.0.2:80"),
            None,
        ),
        (
            "strict",
            index([synced(), strict()]),
            plaintext(),
            Some(401),
        ),
        (
            "another pod's address",
            index([synced()]),
            tunnel("10.0.0.3:80"),
            Some(400),
        ),
        ("no such pod", index([synced()]), stranger, Some(503)),
    ];
    for (name, index, claim, refused) in cases {
        let status = judge(&index, &claim).err().map(|refusal| refusal.status);
        assert_eq!(status, refused, "{name}");
    }
}

fn ends() -> Ends {
    Ends {
        transport: Transport::Tcp,
        direction: Direction::Inbound,
        source: addr("10.0.0.1:40000"),
        destination: addr("10.0.0.2:15008"),
        server_is_near: true,
    }
}

#[tokio::test]
async fn a_change_between_registration_and_judgement_is_seen() {
    let world = World::new();
    world.change([
        Change::Workload(Arc::new(workload("client", "10.0.0.1"))),
        Change::Workload(Arc::new(workload("server", "10.0.0.2"))),
    ]);
    let open = world.shared.connections().open(ends());
    open.claim(tunnel("10.0.0.2:80"));
    judge(&world.shared.index(), &tunnel("10.0.0.2:80")).expect("allowed now");
    world.change([deny(&workload("client", "10.0.0.1").identity)]);
    let failure = open.closed().await;
    assert_eq!(failure.flag(), ResponseFlag::Deny);
    open.finish(&Err(failure));
    assert!(world.shared.connections().is_empty());
}

#[tokio::test]
async fn what_is_dropped_is_reported_as_cut() {
    let world = World::new();
    drop(world.shared.connections().open(ends()));
    let log = world.log();
    assert_eq!(log.len(), 1);
    assert!(
        log[0]["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("cut")),
        "{log:?}"
    );
    let metrics = world.metrics.render();
    assert!(
        metrics.contains("istio_tcp_connections_closed_total{"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("istio_tcp_connections_failed_total{"),
        "{metrics}"
    );
}

#[tokio::test]
async fn bytes_are_counted_while_a_connection_runs_and_once() {
    let world = World::new();
    let (near, far) = crate::testing::pair().await;
    let (client, server) = crate::testing::pair().await;
    let open = world.shared.connections().open(Ends {
        server_is_near: false,
        ..ends()
    });
    open.describe(Details::unknown(addr("10.0.0.2:15008")));
    let relay = ambit_net::relay::relay_tcp(far, client, open.counters(), Duration::MAX);
    let exchange = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut near, mut server) = (near, server);
        near.write_all(b"hello").await.expect("sent");
        server.read_exact(&mut [0; 5]).await.expect("carried");
        world.shared.connections().count_bytes();
        let metrics = world.metrics.render();
        world.shared.connections().count_bytes();
        metrics
    };
    let (relayed, metrics) = tokio::join!(relay, exchange);
    relayed.expect("both ended");
    open.finish(&Ok(()));
    let received = |metrics: &str| {
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("istio_tcp_received_bytes_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(received(&metrics), Some(5), "while it runs");
    assert_eq!(received(&world.metrics.render()), Some(5), "afterwards");
}
