use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::identity::Identity;
use ambit_core::index::Change;
use ambit_net::sys::Netns;
use ambit_net::xds;
use ambit_net::zds;
use ambit_telemetry::readiness::Readiness;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use ambit_proxy::Workers;

use super::*;
use crate::proxy::{Limits, Listeners, Pod};
use crate::testing::{World, workload};

/// Listeners at ports that the kernel chooses.
fn anywhere(_: &Pod) -> io::Result<Listeners> {
    let listen = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    Ok(Listeners {
        outbound: listen()?,
        passthrough: listen()?,
        hbone: listen()?,
        dns: None,
    })
}

fn nowhere(_: &Pod) -> io::Result<Listeners> {
    Err(io::Error::other("no room"))
}

fn manager(world: &World, listen: Listen) -> Manager {
    Manager::new(Host {
        origin: Origin {
            cluster_id: "Kubernetes".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            mark: 0,
            dns: false,
            limits: Limits {
                connections: 10,
                hbone_connections: 10,
                dns_queries: 10,
            },
            grace: Duration::from_secs(5),
        },
        shared: world.shared.clone(),
        certificates: world.certificates.clone(),
        workers: Workers::start(2).expect("started"),
        listen,
    })
}

fn announced(name: &str) -> Announced {
    Announced {
        name: name.to_owned(),
        namespace: "ns".to_owned(),
        service_account: name.to_owned(),
        netns: Netns::current().expect("one"),
    }
}

fn describe(world: &World, name: &str) {
    world.change([Change::Workload(Arc::new(workload(name, "10.0.0.1")))]);
}

fn states(manager: &Manager) -> Vec<(String, bool)> {
    let summaries = manager.summaries().into_iter();
    summaries
        .map(|s| (s.pod, s.state == State::Serving))
        .collect()
}

#[tokio::test]
async fn a_pod_is_served_once_announced_and_described_in_either_order() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    describe(&world, "first");
    manager.add("1", announced("first")).expect("taken");
    manager.add("2", announced("second")).expect("taken");
    assert_eq!(
        states(&manager),
        [("ns/first".into(), true), ("ns/second".into(), false)]
    );
    assert!(world.shared.serves("Kubernetes//Pod/ns/first"));
    assert!(!world.shared.serves("Kubernetes//Pod/ns/second"));
    describe(&world, "second");
    assert!(!manager.try_waiting());
    assert_eq!(states(&manager)[1], ("ns/second".into(), true));
    manager.shutdown().await;
    assert!(!world.shared.serves("Kubernetes//Pod/ns/first"));
}

#[tokio::test]
async fn a_certificate_is_kept_for_as_long_as_its_pod() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    let kept = |world: &World| -> Vec<String> {
        let all = world.certificates.snapshot().into_iter();
        all.map(|entry| entry.identity.to_string()).collect()
    };
    manager.add("1", announced("a")).expect("taken");
    assert_eq!(kept(&world), ["spiffe://cluster.local/ns/ns/sa/a"]);
    // Discovery knows better in which trust domain.
    let mut elsewhere = workload("a", "10.0.0.1");
    elsewhere.identity = Identity::new("elsewhere", "ns", "a").expect("valid");
    world.change([Change::Workload(Arc::new(elsewhere))]);
    assert!(!manager.try_waiting());
    assert_eq!(kept(&world), ["spiffe://elsewhere/ns/ns/sa/a"]);
    manager.remove("1");
    manager.shutdown().await;
    assert!(kept(&world).is_empty());
}

#[tokio::test]
async fn a_pod_deleted_while_it_waits_leaves_nothing() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    manager.add("1", announced("a")).expect("taken");
    manager.remove("1");
    describe(&world, "a");
    assert!(!manager.try_waiting());
    assert!(states(&manager).is_empty());
    assert!(!world.shared.serves("Kubernetes//Pod/ns/a"));
    manager.remove("1");
    manager.remove("never seen");
    manager.shutdown().await;
}

#[tokio::test]
async fn a_pod_with_another_service_account_is_not_served() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    describe(&world, "a");
    let impostor = Announced {
        service_account: "admin".to_owned(),
        ..announced("a")
    };
    manager.add("1", impostor).expect("taken");
    let State::Waiting(why) = &manager.summaries()[0].state else {
        panic!("it is served");
    };
    assert!(why.contains("admin") && why.contains("sa/a"), "{why}");
    manager.shutdown().await;
}

#[tokio::test]
async fn one_that_cannot_be_announced_concerns_no_other() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    describe(&world, "a");
    manager.add("1", announced("a")).expect("taken");
    let nameless = Announced {
        service_account: String::new(),
        ..announced("b")
    };
    let error = manager.add("2", nameless).expect_err("no identity");
    assert!(error.contains("ns/b"), "{error}");
    assert_eq!(states(&manager), [("ns/a".into(), true)]);
    manager.shutdown().await;
}

#[tokio::test]
async fn a_pod_whose_listeners_cannot_be_opened_is_refused_and_tried_again() {
    let world = World::new();
    let mut manager = manager(&world, nowhere);
    // The agent is told: it does not let such a pod start.
    let error = manager.add("1", announced("a")).expect_err("no room");
    assert_eq!(error, "pod ns/a: no room");
    manager.add("1", announced("a")).expect_err("still no room");
    assert!(manager.try_waiting(), "to be tried again");
    assert_eq!(
        manager.summaries()[0].state,
        State::Waiting("no room".to_owned())
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn a_reconnected_agent_names_what_is_left() {
    let world = World::new();
    let mut manager = manager(&world, anywhere);
    for (uid, name) in [("1", "a"), ("2", "b"), ("3", "c")] {
        describe(&world, name);
        manager.add(uid, announced(name)).expect("taken");
    }
    let before = world.shared.pod("Kubernetes//Pod/ns/a").expect("served");
    manager.announcement();
    manager.add("1", announced("a")).expect("known");
    manager.keep("2").expect("known");
    manager.keep("4").expect_err("never sent");
    manager.snapshot_sent();
    let names: Vec<String> = states(&manager).into_iter().map(|(pod, _)| pod).collect();
    assert_eq!(names, ["ns/a", "ns/b"]);
    let after = world.shared.pod("Kubernetes//Pod/ns/a").expect("served");
    assert!(Arc::ptr_eq(&before, &after), "it was not touched");
    manager.shutdown().await;
}

#[tokio::test]
async fn readiness_waits_for_the_snapshot_and_for_discovery() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zds.sock");
    let server = zds::Server::bind(&path, Duration::from_secs(5)).expect("bound");
    let netns = Netns::current()
        .expect("one")
        .as_fd()
        .try_clone_to_owned()
        .expect("a copy");
    let info = zds::WorkloadInfo {
        name: "a".to_owned(),
        namespace: "ns".to_owned(),
        service_account: "a".to_owned(),
    };
    server.restore(
        "1",
        zds::Pod {
            info,
            netns: Arc::new(netns),
        },
    );
    let running = server.clone();
    tokio::spawn(async move { running.run().await });

    let readiness = Readiness::default();
    let (summaries, mut seen) = watch::channel(Vec::new());
    let (changes, changed) = watch::channel(0);
    let surroundings = Surroundings {
        changed,
        discovery: never_synced(),
        ready: readiness.task("pods"),
        summaries,
    };
    let (end, ended) = oneshot::channel::<()>();
    let following = follow_in_background(&path, manager(&world, anywhere), surroundings, ended);

    let waiting =
        |all: &Vec<Summary>| matches!(all.as_slice(), [one] if one.state != State::Serving);
    seen.wait_for(waiting).await.expect("announced");
    describe(&world, "a");
    changes.send_replace(1);
    let serving =
        |all: &Vec<Summary>| matches!(all.as_slice(), [one] if one.state == State::Serving);
    seen.wait_for(serving).await.expect("served");
    assert_eq!(
        readiness.pending(),
        ["pods"],
        "discovery has not synchronized"
    );
    drop(end);
    let manager = following.await.expect("ended");
    manager.shutdown().await;
}

/// The status of a discovery client that never ran.
fn never_synced() -> xds::Status {
    let address = "https://localhost:1".parse().expect("an address");
    let remote = ambit_net::grpc::Remote::new(address, "/nowhere");
    let node = xds::Node::new("ztunnel", [127, 0, 0, 1].into(), "p", "ns", "node");
    let config = xds::Config::new(remote, node, ["type"]);
    let (_client, status) = xds::Client::new(config, |_: xds::Push| Ok(()));
    status
}

fn follow_in_background(
    path: &Path,
    manager: Manager,
    surroundings: Surroundings,
    ended: oneshot::Receiver<()>,
) -> tokio::task::JoinHandle<Manager> {
    let path = path.to_owned();
    tokio::spawn(async move {
        let end = async {
            let _ = ended.await;
        };
        follow(&path, manager, surroundings, end).await
    })
}
