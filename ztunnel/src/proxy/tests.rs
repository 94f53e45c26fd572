//! Flows between pods of one test, in network namespaces of its own. Pods are loopback
//! addresses; captured connections are handed over with what the client dialled.

mod callers;
mod clock;
mod departures;
mod dns;
mod failures;
mod limits;
mod telemetry;
mod unwrapped;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::index::Change;
use ambit_core::model::{TunnelProtocol, Workload};
use ambit_core::plan::OutboundTrafficPolicy;
use ambit_net::hbone::{Pool, Stage, Target};
use ambit_net::sys::Sockets;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{outbound, passthrough};
use crate::testing::{
    Served, World, addr, deny, deny_where_referred_to, pair, run, service, service_key, strict,
    workload,
};

const CLIENT: &str = "127.61.0.1";
const SERVER: &str = "127.61.0.2";

/// An application that answers each byte with itself, and tells who called.
async fn echo(ip: &str) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<SocketAddr>) {
    let ip: IpAddr = ip.parse().expect("an address");
    let listener = TcpListener::bind((ip, 0)).await.expect("a port");
    let (callers, called) = tokio::sync::mpsc::unbounded_channel();
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let _ = callers.send(peer);
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    (addr, called)
}

/// What an application in the pod `from` gets when it dials `dialled`.
async fn dial(from: &Served, dialled: SocketAddr) -> TcpStream {
    let (near, captured) = pair().await;
    let client = SocketAddr::new(CLIENT.parse().expect("an address"), 40_000);
    tokio::spawn(outbound::serve_to(
        from.proxy.clone(),
        captured,
        client,
        Ok(dialled),
    ));
    near
}

/// Sends a word and gives what comes back until the end.
async fn exchange(mut stream: TcpStream, word: &str) -> io::Result<String> {
    stream.write_all(word.as_bytes()).await?;
    stream.shutdown().await?;
    let mut back = String::new();
    stream.read_to_string(&mut back).await?;
    Ok(back)
}

fn line<'a>(log: &'a [Value], direction: &str) -> &'a Value {
    let found = log.iter().find(|line| line["direction"] == direction);
    found.unwrap_or_else(|| panic!("no {direction} line in {log:?}"))
}

#[test]
fn two_proxies_talk_mutual_tls_and_both_report() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let (app, _) = echo(SERVER).await;
        let back = exchange(dial(&client, app).await, "hello").await;
        assert_eq!(back.expect("carried"), "hello");

        let log = world.logged(2).await;
        let out = line(&log, "outbound");
        assert_eq!(out["src.workload"], "client");
        assert_eq!(
            out["src.identity"],
            "spiffe://cluster.local/ns/ns/sa/client"
        );
        assert_eq!(out["dst.addr"], format!("{SERVER}:15008"));
        assert_eq!(out["dst.hbone_addr"], app.to_string());
        assert_eq!(
            out["dst.identity"],
            "spiffe://cluster.local/ns/ns/sa/server"
        );
        let inbound = line(&log, "inbound");
        assert_eq!(
            inbound["src.identity"],
            "spiffe://cluster.local/ns/ns/sa/client"
        );
        assert_eq!(inbound["dst.workload"], "server");
        for line in [out, inbound] {
            assert_eq!(
                (&line["bytes_sent"], &line["bytes_recv"]),
                (&5.into(), &5.into())
            );
            assert!(line.get("error").is_none(), "{line}");
        }
        let metrics = world.metrics.render();
        for reporter in ["source", "destination"] {
            let opened = metrics.lines().find(|line| {
                line.starts_with("istio_tcp_connections_opened_total{")
                    && line.contains(&format!("reporter=\"{reporter}\""))
            });
            let opened = opened.unwrap_or_else(|| panic!("{reporter}: {metrics}"));
            assert!(
                opened.contains("connection_security_policy=\"mutual_tls\""),
                "{opened}"
            );
        }
        assert!(world.shared.connections().is_empty(), "nothing is left");
    });
}

#[test]
fn a_denied_caller_is_refused_and_the_policy_named() {
    run(async || {
        let world = World::new();
        let caller = workload("client", CLIENT);
        let client = world.serve(&caller).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let (app, mut called) = echo(SERVER).await;
        world.change([deny(&caller.identity)]);
        exchange(dial(&client, app).await, "hello")
            .await
            .expect_err("reset");
        let log = world.logged(2).await;
        let error = line(&log, "inbound")["error"].as_str().expect("an error");
        assert!(error.contains("ns/deny"), "{error}");
        let error = line(&log, "outbound")["error"].as_str().expect("an error");
        assert!(error.contains("401"), "{error}");
        assert!(
            called.try_recv().is_err(),
            "the application saw nothing of it"
        );
        let metrics = world.metrics.render();
        let failed = metrics
            .lines()
            .filter(|l| l.starts_with("istio_tcp_connections_failed"));
        let flags = failed
            .filter(|l| l.contains("response_flags=\"DENY\""))
            .count();
        assert_eq!(flags, 2, "{metrics}");
    });
}

#[test]
fn a_policy_change_closes_what_runs() {
    run(async || {
        let world = World::new();
        let caller = workload("client", CLIENT);
        let client = world.serve(&caller).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let (app, _called) = echo(SERVER).await;
        let mut stream = dial(&client, app).await;
        let mut word = [0; 2];
        stream.write_all(b"hi").await.expect("sent");
        stream.read_exact(&mut word).await.expect("it runs");
        world.change([deny(&caller.identity)]);
        let ended = stream.read(&mut word).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let log = world.logged(2).await;
        let error = line(&log, "inbound")["error"].as_str().expect("an error");
        assert!(
            error.starts_with("closed: ") && error.contains("ns/deny"),
            "{error}"
        );
    });
}

#[test]
fn a_workload_that_begins_to_refer_to_a_policy_closes_what_runs() {
    run(async || {
        let world = World::new();
        let caller = workload("client", CLIENT);
        let client = world.serve(&caller).await;
        let mut called = workload("server", SERVER);
        let _server = world.serve(&called).await;
        let (app, _called) = echo(SERVER).await;
        let policy = deny_where_referred_to(&caller.identity);
        let key = policy.key.clone();
        world.change([Change::Policy(Arc::new(policy))]);
        let mut stream = dial(&client, app).await;
        let mut word = [0; 2];
        stream.write_all(b"hi").await.expect("sent");
        stream.read_exact(&mut word).await.expect("it runs");
        called.authorization_policies = vec![key];
        world.change([Change::Workload(Arc::new(called))]);
        let ended = stream.read(&mut word).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let log = world.logged(2).await;
        let error = line(&log, "inbound")["error"].as_str().expect("an error");
        assert!(
            error.starts_with("closed: ") && error.contains("ns/selected"),
            "{error}"
        );
    });
}

#[test]
fn pods_of_one_node_are_joined_directly_and_authorized_all_the_same() {
    run(async || {
        let world = World::with(|settings| settings.node_local = true);
        let caller = workload("client", CLIENT);
        let client = world.serve(&caller).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let (app, mut called) = echo(SERVER).await;
        let back = exchange(dial(&client, app).await, "hello").await;
        assert_eq!(back.expect("carried"), "hello");
        let seen = called.recv().await.expect("called");
        assert_eq!(
            seen.ip().to_string(),
            CLIENT,
            "the application sees its caller"
        );
        let log = world.logged(1).await;
        assert_eq!(log[0]["security"], "node_local");
        assert_eq!(
            log[0]["dst.identity"],
            "spiffe://cluster.local/ns/ns/sa/server"
        );
        let metrics = world.metrics.render();
        for reporter in ["source", "destination"] {
            let text = format!("reporter=\"{reporter}\"");
            assert!(metrics.contains(&text), "{reporter}");
        }

        world.change([deny(&caller.identity)]);
        exchange(dial(&client, app).await, "hello")
            .await
            .expect_err("refused");
        let log = world.logged(2).await;
        let error = log[1]["error"].as_str().expect("an error");
        assert!(error.contains("ns/deny"), "{error}");
        assert!(
            called.try_recv().is_err(),
            "the application saw nothing of it"
        );
    });
}

#[test]
fn what_nobody_knows_is_refused_if_the_policy_says_so() {
    run(async || {
        let only = OutboundTrafficPolicy::RegistryOnly;
        let world = World::with(|settings| settings.outbound_policy = only);
        let client = world.serve(&workload("client", CLIENT)).await;
        let nobody = addr("192.0.2.7:443");
        exchange(dial(&client, nobody).await, "hello")
            .await
            .expect_err("reset");
        let log = world.logged(1).await;
        assert_eq!(log[0]["src.workload"], "client");
        let error = log[0]["error"].as_str().expect("an error");
        let expected = "192.0.2.7:443 is no service and no workload that the mesh knows";
        assert!(
            error.starts_with(expected) && error.contains("ServiceEntry"),
            "{error}"
        );
        let metrics = world.metrics.render();
        let failed = metrics.lines().find(|line| {
            line.starts_with("istio_tcp_connections_failed_total{")
                && line.contains("reporter=\"source\"")
                && line.contains("response_flags=\"DENY\"")
        });
        assert!(failed.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
    });
}

fn endpoint(name: &str, ip: &str, of: &str) -> Workload {
    Workload {
        services: vec![(service_key(of), vec![])],
        ..workload(name, ip)
    }
}

#[test]
fn another_endpoint_is_tried_when_one_does_not_answer() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let _server = world.serve(&endpoint("server", SERVER, "web")).await;
        let (app, _) = echo(SERVER).await;
        // Nothing listens there.
        let gone = endpoint("gone", "127.61.0.3", "web");
        let web = service("web", "127.61.1.1", app.port());
        world.change([
            Change::Workload(Arc::new(gone)),
            Change::Service(Arc::new(web)),
        ]);
        for round in 0..10 {
            let stream = dial(&client, addr("127.61.1.1:80")).await;
            let back = exchange(stream, "hello").await;
            assert_eq!(back.expect("carried"), "hello", "round {round}");
        }
        let log = world.logged(20).await;
        assert!(
            log.iter().all(|line| line.get("error").is_none()),
            "{log:?}"
        );
    });
}

#[test]
fn without_another_endpoint_the_failure_itself_is_reported() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let gone = endpoint("gone", "127.61.0.3", "web");
        let web = service("web", "127.61.1.1", 80);
        world.change([
            Change::Workload(Arc::new(gone)),
            Change::Service(Arc::new(web)),
        ]);
        let stream = dial(&client, addr("127.61.1.1:80")).await;
        exchange(stream, "hello").await.expect_err("reset");
        let log = world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(error.contains("refused"), "{error}");
        assert_eq!(log[0]["dst.workload"], "gone");
        assert_eq!(log[0]["dst.service"], "web.ns.svc.cluster.local");
    });
}

#[test]
fn tunnels_lead_to_the_pod_itself_or_nowhere() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let _server = world.serve(&workload("server", SERVER)).await;
        let identity = client.pod.identity().expect("identified");
        let certified = identity.get().await.expect("a certificate");
        let pool = Pool::new(Sockets::default(), ambit_net::hbone::Settings::default());
        let target = Target {
            address: SocketAddr::new(SERVER.parse().expect("an address"), 15008),
            identities: [workload("server", SERVER).identity].as_slice().into(),
        };
        for (authority, status) in [
            ("127.61.0.3:80", 400),
            ("127.61.0.2:15008", 503),
            ("127.61.0.2:15001", 503),
            ("127.61.0.2:15006", 503),
            ("127.61.0.2:0", 503),
            ("no.such.host:80", 503),
            ("127.61.0.2:1", 503),
        ] {
            let opening = pool
                .open(&target, &certified, authority, http::HeaderMap::new())
                .await;
            let refused = opening.expect("sent").established().await;
            let error = refused
                .err()
                .unwrap_or_else(|| panic!("{authority} was agreed to"));
            assert_eq!(
                error.stage(),
                Stage::Refused(status),
                "{authority}: {error}"
            );
        }
    });
}

#[test]
fn plaintext_passes_unless_policy_wants_an_identity() {
    run(async || {
        let world = World::new();
        let server = world.serve(&workload("server", SERVER)).await;
        let (app, mut called) = echo(SERVER).await;
        let plain = async || {
            let (near, captured) = pair().await;
            let caller = addr("127.61.9.9:40000");
            tokio::spawn(passthrough::serve_to(
                server.proxy.clone(),
                captured,
                caller,
                Ok(app),
            ));
            exchange(near, "hello").await
        };
        assert_eq!(plain().await.expect("carried"), "hello");
        let seen = called.recv().await.expect("called");
        assert_eq!(seen.ip().to_string(), "127.61.9.9");
        world.change([strict()]);
        plain().await.expect_err("reset");
        let log = world.logged(2).await;
        assert!(log[0].get("src.identity").is_none() && log[0].get("error").is_none());
        let error = log[1]["error"].as_str().expect("an error");
        assert!(error.contains("ns/deny"), "{error}");
    });
}

#[test]
fn what_the_mesh_does_not_know_passes_through() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let mut legacy = workload("legacy", "127.61.0.4");
        legacy.tunnel_protocol = TunnelProtocol::None;
        world.change([Change::Workload(Arc::new(legacy))]);
        for ip in ["127.61.0.4", "127.61.0.5"] {
            let (app, _) = echo(ip).await;
            let back = exchange(dial(&client, app).await, "hello").await;
            assert_eq!(back.expect("carried"), "hello", "{ip}");
        }
        let log = world.logged(2).await;
        assert_eq!(log[0]["dst.workload"], "legacy");
        assert!(
            log.iter().all(|line| line.get("dst.identity").is_none()),
            "{log:?}"
        );
    });
}

#[test]
fn the_proxys_own_ports_are_no_destination() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        for port in [15001, 15006, 15008] {
            let own = SocketAddr::new(CLIENT.parse().expect("an address"), port);
            let refused = exchange(dial(&client, own).await, "hello").await;
            assert!(refused.is_err(), "{port}: {refused:?}");
        }
        let log = world.logged(3).await;
        assert!(
            log.iter().all(|line| line.get("error").is_some()),
            "{log:?}"
        );
    });
}

#[test]
fn a_pod_that_discovery_forgot_is_refused_with_the_reason() {
    run(async || {
        let world = World::new();
        let described = workload("client", CLIENT);
        let client = world.serve(&described).await;
        world.change([Change::RemoveAddress(described.uid.clone())]);
        // Nothing was sent: the reset is ours, not the kernel's for want of a reader.
        let mut stream = dial(&client, addr("127.61.0.5:80")).await;
        let error = stream.read_u8().await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let log = world.logged(1).await;
        let error = log[0]["error"].as_str().expect("an error");
        assert!(error.contains("ns/client"), "{error}");
    });
}

#[test]
fn a_pod_that_nobody_has_described_yet_waits() {
    run(async || {
        let short = Duration::from_millis(50);
        let world = World::with(|settings| settings.description_timeout = short);
        let described = workload("client", CLIENT);
        let ip = CLIENT.parse().expect("an address");
        let pod = world.unidentified_pod(&described, 10);
        pod.unidentified("not a word of it");
        let client = world.serve_pod(pod, ip).await;
        let mut stream = dial(&client, addr("127.61.0.5:80")).await;
        let error = stream.read_u8().await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let mut tls = TcpStream::connect((CLIENT, 15008))
            .await
            .expect("it listens");
        let ended = tls.read(&mut [0]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        for line in world.logged(2).await {
            let error = line["error"].as_str().expect("an error");
            assert!(
                error.contains("ns/client has no identity after 50ms: not a word"),
                "{error}"
            );
        }
    });
}

#[test]
fn the_first_connection_of_a_pod_waits_until_the_pod_is_described() {
    run(async || {
        let world = World::new();
        let described = workload("client", CLIENT);
        let pod = world.unidentified_pod(&described, 10);
        let client = world
            .serve_pod(pod.clone(), CLIENT.parse().expect("an address"))
            .await;
        let (app, mut called) = echo("127.61.0.5").await;
        let carried = tokio::spawn(exchange(dial(&client, app).await, "hello"));
        tokio::time::timeout(Duration::from_millis(50), called.recv())
            .await
            .expect_err("it waits");
        world.change([Change::Workload(Arc::new(described.clone()))]);
        pod.identify(world.certificates.want(&described.identity));
        assert_eq!(carried.await.expect("no panic").expect("carried"), "hello");
    });
}

#[test]
fn an_unknown_policy_denies() {
    run(async || {
        let world = World::new();
        let client = world.serve(&workload("client", CLIENT)).await;
        let mut guarded = workload("server", SERVER);
        guarded.authorization_policies = vec![NamespacedName::new("ns", "missing")];
        let _server = world.serve(&guarded).await;
        let (app, _) = echo(SERVER).await;
        exchange(dial(&client, app).await, "hello")
            .await
            .expect_err("denied");
        let log = world.logged(2).await;
        let error = line(&log, "inbound")["error"].as_str().expect("an error");
        assert!(error.contains("ns/missing"), "{error}");
    });
}
